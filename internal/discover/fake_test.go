package discover

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"
)

// fakeSystemd is a D-Bus and a systemd in one: it speaks the wire protocol of the D-Bus
// specification on a unix socket, answers as org.freedesktop.systemd1 would, and sends
// signals when told to.
type fakeSystemd struct {
	t        *testing.T
	path     string
	listener net.Listener
	wait     sync.WaitGroup

	mu         sync.Mutex
	units      map[string]map[string]any // guarded by mu; properties of loaded units
	files      []unitFile                // guarded by mu
	conns      map[net.Conn]bool         // guarded by mu
	subscribed int                       // guarded by mu
	calls      map[string]int            // guarded by mu
	stray      []string                  // guarded by mu; units that were asked for without being loaded
	deaf       bool                      // guarded by mu: accepts, and says nothing
}

func newFake(t *testing.T) *fakeSystemd {
	f := &fakeSystemd{t: t, path: filepath.Join(t.TempDir(), "bus"), units: map[string]map[string]any{}, conns: map[net.Conn]bool{}, calls: map[string]int{}}
	f.listen()
	t.Cleanup(f.stop)
	return f
}

func (f *fakeSystemd) address() string { return "unix:path=" + f.path }

func (f *fakeSystemd) listen() {
	l, err := net.Listen("unix", f.path)
	if err != nil {
		f.t.Fatal(err)
	}
	f.listener = l
	f.wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns[c] = true
			f.mu.Unlock()
			f.wait.Go(func() { f.serve(c) })
		}
	})
}

// stop takes D-Bus away.
func (f *fakeSystemd) stop() {
	f.listener.Close()
	f.mu.Lock()
	for c := range f.conns {
		c.Close()
	}
	f.mu.Unlock()
	f.wait.Wait()
}

// serve does the handshake (D-Bus specification, "Authentication Protocol") and then
// answers calls.
func (f *fakeSystemd) serve(c net.Conn) {
	defer func() {
		c.Close()
		f.mu.Lock()
		delete(f.conns, c)
		f.mu.Unlock()
	}()
	f.mu.Lock()
	deaf := f.deaf
	f.mu.Unlock()
	r := bufio.NewReader(c)
	r.ReadByte() // NUL
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if deaf {
			continue
		}
		switch word, mechanism, _ := strings.Cut(strings.TrimSpace(line), " "); word {
		case "AUTH":
			if mechanism == "" {
				fmt.Fprint(c, "REJECTED EXTERNAL\r\n")
				continue
			}
			fmt.Fprint(c, "OK 0123456789abcdef0123456789abcdef\r\n")
		case "NEGOTIATE_UNIX_FD":
			fmt.Fprint(c, "AGREE_UNIX_FD\r\n")
		case "BEGIN":
			for {
				m, err := dbus.DecodeMessage(r)
				if err != nil {
					return
				}
				if m.Type == dbus.TypeMethodCall {
					f.answer(c, m)
				}
			}
		default:
			fmt.Fprint(c, "ERROR\r\n")
		}
	}
}

// answer answers one call.
func (f *fakeSystemd) answer(c net.Conn, m *dbus.Message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	iface := m.Headers[dbus.FieldInterface].Value().(string)
	member := m.Headers[dbus.FieldMember].Value().(string)
	path, _ := m.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
	f.calls[member]++
	switch member {
	case "Hello":
		f.reply(c, m, ":1.7")
	case "AddMatch", "RemoveMatch":
		f.reply(c, m)
	case "Subscribe":
		f.subscribed++
		f.reply(c, m)
	case "ListUnits":
		rows := []listed{}
		for name, u := range f.units {
			rows = append(rows, listed{Name: name, Load: "loaded", Active: fmt.Sprint(u["ActiveState"]), Path: object(name), JobPath: "/"})
		}
		f.reply(c, m, rows)
	case "ListUnitFiles":
		f.reply(c, m, f.files)
	case "GetUnit":
		name := m.Body[0].(string)
		if f.units[name] == nil {
			f.refuse(c, m, noSuchUnit)
			return
		}
		f.reply(c, m, object(name))
	case "Get", "GetAll":
		u := f.at(path)
		if u == nil {
			f.stray = append(f.stray, string(path))
			f.refuse(c, m, noSuchUnit)
			return
		}
		if member == "Get" {
			f.reply(c, m, dbus.MakeVariant(u[m.Body[1].(string)]))
			return
		}
		f.reply(c, m, variants(u))
	default:
		f.refuse(c, m, "org.freedesktop.DBus.Error.UnknownMethod")
		f.t.Errorf("unknown call %s.%s", iface, member)
	}
}

func variants(u map[string]any) map[string]dbus.Variant {
	all := map[string]dbus.Variant{}
	for name, v := range u {
		all[name] = dbus.MakeVariant(v)
	}
	return all
}

func (f *fakeSystemd) at(path dbus.ObjectPath) map[string]any {
	for name, u := range f.units {
		if object(name) == path {
			return u
		}
	}
	return nil
}

func (f *fakeSystemd) reply(c net.Conn, to *dbus.Message, body ...any) {
	f.send(c, dbus.TypeMethodReply, map[dbus.HeaderField]dbus.Variant{dbus.FieldReplySerial: dbus.MakeVariant(to.Serial())}, body)
}

func (f *fakeSystemd) refuse(c net.Conn, to *dbus.Message, name string) {
	f.send(c, dbus.TypeError, map[dbus.HeaderField]dbus.Variant{
		dbus.FieldReplySerial: dbus.MakeVariant(to.Serial()), dbus.FieldErrorName: dbus.MakeVariant(name)}, []any{"no"})
}

// send writes a message; mu is held.
func (f *fakeSystemd) send(c net.Conn, kind dbus.Type, headers map[dbus.HeaderField]dbus.Variant, body []any) {
	m := &dbus.Message{Type: kind, Headers: headers, Body: body}
	headers[dbus.FieldSender] = dbus.MakeVariant(":1.0")
	if len(body) > 0 {
		headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	if err := m.EncodeTo(c, binary.LittleEndian); err != nil && kind != dbus.TypeMethodReply {
		f.t.Logf("send: %v", err)
	}
}

// signal sends a signal to all.
func (f *fakeSystemd) signal(path dbus.ObjectPath, iface, member string, body ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		f.send(c, dbus.TypeSignal, map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath: dbus.MakeVariant(path), dbus.FieldInterface: dbus.MakeVariant(iface), dbus.FieldMember: dbus.MakeVariant(member)}, body)
	}
}

// load makes systemd have a unit, with its file.
func (f *fakeSystemd) load(name, file string, props map[string]any) {
	u := map[string]any{"FragmentPath": file, "DropInPaths": []string{}, "ActiveState": "active", "SubState": "running",
		"Result": "success", "NRestarts": uint32(0), "UnitFileState": "enabled", "MemoryCurrent": uint64(64 << 20), "CPUUsageNSec": ^uint64(0), "MemoryMax": ^uint64(0)}
	for k, v := range props {
		u[k] = v
	}
	f.mu.Lock()
	f.units[name] = u
	f.mu.Unlock()
	f.signal(managerPath, manager, "UnitNew", name, object(name))
}

func (f *fakeSystemd) unload(name string) {
	f.mu.Lock()
	delete(f.units, name)
	f.mu.Unlock()
	f.signal(managerPath, manager, "UnitRemoved", name, object(name))
}

// change changes properties of a unit, and says so.
func (f *fakeSystemd) change(name string, props map[string]any) {
	f.mu.Lock()
	for k, v := range props {
		f.units[name][k] = v
	}
	f.mu.Unlock()
	f.signal(object(name), properties, "PropertiesChanged", unitIface, variants(props), []string{})
}
