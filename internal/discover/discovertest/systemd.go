// Package discovertest is a D-Bus with a systemd behind it, for tests: it speaks the
// wire protocol of the D-Bus specification on a unix socket, answers what package
// discover asks as org.freedesktop.systemd1(5) would, and sends signals when told to.
// It goes away and comes back on demand.
package discovertest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// Names of org.freedesktop.systemd1(5).
const (
	Manager     = "org.freedesktop.systemd1.Manager"
	ManagerPath = "/org/freedesktop/systemd1"
	properties  = "org.freedesktop.DBus.Properties"
	unitIface   = "org.freedesktop.systemd1.Unit"
	noSuchUnit  = "org.freedesktop.systemd1.NoSuchUnit"
)

// Systemd is a D-Bus and a systemd in one. Its methods may be called concurrently, but
// for Stop and Start.
type Systemd struct {
	tb       testing.TB
	path     string
	listener net.Listener
	wait     sync.WaitGroup

	mu    sync.Mutex
	units map[string]map[string]any // guarded by mu; properties of loaded units
	dir   string                    // of unit files; immutable
	conns map[net.Conn]bool         // guarded by mu
	calls map[string]int            // guarded by mu
	stray []string                  // guarded by mu; units that were asked for without being loaded
	deaf  bool                      // guarded by mu: accepts, and says nothing
}

// unit is a row of ListUnits.
type unit struct {
	Name, Description, Load, Active, Sub, Following string
	Path                                            dbus.ObjectPath
	JobID                                           uint32
	JobType                                         string
	JobPath                                         dbus.ObjectPath
}

// Object returns where the object of a unit is.
func Object(unit string) dbus.ObjectPath {
	return dbus.ObjectPath(ManagerPath + "/unit/" + sd.PathBusEscape(unit))
}

// New returns a systemd without units that ends with the test.
func New(tb testing.TB) *Systemd {
	f := &Systemd{tb: tb, path: filepath.Join(tb.TempDir(), "bus"), dir: tb.TempDir(), units: map[string]map[string]any{}, conns: map[net.Conn]bool{}, calls: map[string]int{}}
	f.Start()
	tb.Cleanup(f.Stop)
	return f
}

// Address returns its D-Bus address.
func (f *Systemd) Address() string { return "unix:path=" + f.path }

// Start makes D-Bus come back after Stop.
func (f *Systemd) Start() {
	l, err := net.Listen("unix", f.path)
	if err != nil {
		f.tb.Fatal(err)
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

// Stop takes D-Bus away.
func (f *Systemd) Stop() {
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
func (f *Systemd) serve(c net.Conn) {
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
func (f *Systemd) answer(c net.Conn, m *dbus.Message) {
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
		f.reply(c, m)
	case "ListUnits":
		rows := []unit{}
		for name, u := range f.units {
			rows = append(rows, unit{Name: name, Load: "loaded", Active: fmt.Sprint(u["ActiveState"]), Path: Object(name), JobPath: "/"})
		}
		f.reply(c, m, rows)
	case "GetUnit":
		name := m.Body[0].(string)
		if f.units[name] == nil {
			f.refuse(c, m, noSuchUnit)
			return
		}
		f.reply(c, m, Object(name))
	case "Get", "GetAll":
		if path == ManagerPath {
			f.reply(c, m, dbus.MakeVariant([]string{f.dir}))
			return
		}
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
		f.tb.Errorf("unknown call %s.%s", iface, member)
	}
}

func variants(u map[string]any) map[string]dbus.Variant {
	all := map[string]dbus.Variant{}
	for name, v := range u {
		all[name] = dbus.MakeVariant(v)
	}
	return all
}

func (f *Systemd) at(path dbus.ObjectPath) map[string]any {
	for name, u := range f.units {
		if Object(name) == path {
			return u
		}
	}
	return nil
}

func (f *Systemd) reply(c net.Conn, to *dbus.Message, body ...any) {
	f.send(c, dbus.TypeMethodReply, map[dbus.HeaderField]dbus.Variant{dbus.FieldReplySerial: dbus.MakeVariant(to.Serial())}, body)
}

func (f *Systemd) refuse(c net.Conn, to *dbus.Message, name string) {
	f.send(c, dbus.TypeError, map[dbus.HeaderField]dbus.Variant{
		dbus.FieldReplySerial: dbus.MakeVariant(to.Serial()), dbus.FieldErrorName: dbus.MakeVariant(name)}, []any{"no"})
}

// send writes a message; mu is held.
func (f *Systemd) send(c net.Conn, kind dbus.Type, headers map[dbus.HeaderField]dbus.Variant, body []any) {
	m := &dbus.Message{Type: kind, Headers: headers, Body: body}
	headers[dbus.FieldSender] = dbus.MakeVariant(":1.0")
	if len(body) > 0 {
		headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	if err := m.EncodeTo(c, binary.LittleEndian); err != nil && kind != dbus.TypeMethodReply {
		f.tb.Logf("send: %v", err)
	}
}

// Signal sends a signal to all.
func (f *Systemd) Signal(path dbus.ObjectPath, iface, member string, body ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		f.send(c, dbus.TypeSignal, map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath: dbus.MakeVariant(path), dbus.FieldInterface: dbus.MakeVariant(iface), dbus.FieldMember: dbus.MakeVariant(member)}, body)
	}
}

// Load makes systemd have a unit, with its file: enabled and running, but for the given
// properties.
func (f *Systemd) Load(name, file string, props map[string]any) {
	u := map[string]any{"FragmentPath": file, "DropInPaths": []string{}, "ActiveState": "active", "SubState": "running",
		"Result": "success", "NRestarts": uint32(0), "UnitFileState": "enabled", "MemoryCurrent": uint64(64 << 20), "CPUUsageNSec": ^uint64(0), "MemoryMax": ^uint64(0)}
	for k, v := range props {
		u[k] = v
	}
	f.mu.Lock()
	f.units[name] = u
	f.mu.Unlock()
	f.Signal(ManagerPath, Manager, "UnitNew", name, Object(name))
}

// Unload makes systemd forget a unit.
func (f *Systemd) Unload(name string) {
	f.mu.Lock()
	delete(f.units, name)
	f.mu.Unlock()
	f.Signal(ManagerPath, Manager, "UnitRemoved", name, Object(name))
}

// Change changes properties of a unit, and says so.
func (f *Systemd) Change(name string, props map[string]any) {
	f.mu.Lock()
	for k, v := range props {
		f.units[name][k] = v
	}
	f.mu.Unlock()
	f.Signal(Object(name), properties, "PropertiesChanged", unitIface, variants(props), []string{})
}

// Set changes properties of a unit without saying so.
func (f *Systemd) Set(name string, props map[string]any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for k, v := range props {
		f.units[name][k] = v
	}
}

// Dir returns where it has its unit files.
func (f *Systemd) Dir() string { return f.dir }

// Enable makes a unit start at boot, or not any more.
func (f *Systemd) Enable(unit string, yes bool) {
	wants := filepath.Join(f.dir, "multi-user.target.wants")
	if err := os.MkdirAll(wants, 0o755); err != nil {
		f.tb.Error(err)
	}
	link := filepath.Join(wants, unit)
	_ = os.Remove(link) // it may not be there
	if yes {
		if err := os.Symlink(filepath.Join(f.dir, unit), link); err != nil {
			f.tb.Error(err)
		}
	}
}

// SetDeaf makes it accept connections and say nothing on new ones.
func (f *Systemd) SetDeaf() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deaf = true
}

// Calls returns how often a method was called, such as "Subscribe".
func (f *Systemd) Calls(member string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[member]
}

// Stray returns the objects of units that were asked for without being loaded: that
// would make a real systemd load them.
func (f *Systemd) Stray() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.stray)
}
