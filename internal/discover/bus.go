package discover

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// Names of org.freedesktop.systemd1(5).
const (
	systemd      = "org.freedesktop.systemd1"
	manager      = systemd + ".Manager"
	unitIface    = systemd + ".Unit"
	serviceIface = systemd + ".Service"
	managerPath  = "/org/freedesktop/systemd1"
	unitPath     = managerPath + "/unit/"
	properties   = "org.freedesktop.DBus.Properties"

	// noSuchUnit is the answer for a unit that is not loaded.
	noSuchUnit = systemd + ".NoSuchUnit"
)

// bus is a connection to systemd over D-Bus.
type bus struct {
	conn *dbus.Conn
	// end closes the connection: godbus ties it to a context.
	end context.CancelFunc
}

// connect connects within callTimeout.
func connect(ctx context.Context, address string) (*bus, error) {
	ctx, end := context.WithCancel(ctx)
	slow := time.AfterFunc(callTimeout, end)
	options := []dbus.ConnOption{dbus.WithContext(ctx), dbus.WithSignalHandler(dbus.NewSequentialSignalHandler())}
	var conn *dbus.Conn
	var err error
	if address == "" {
		conn, err = dbus.ConnectSystemBus(options...)
	} else {
		conn, err = dbus.Connect(address, options...)
	}
	if !slow.Stop() && err == nil {
		err = context.DeadlineExceeded
	}
	if err != nil {
		end()
		return nil, fmt.Errorf("connect to D-Bus: %w", err)
	}
	return &bus{conn, end}, nil
}

func (b *bus) close() {
	b.end()
	_ = b.conn.Close() // how it ends does not matter any more
}

// call asks the object at path and stores the answer in results.
func (b *bus) call(ctx context.Context, path dbus.ObjectPath, method string, args []any, results ...any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := b.conn.Object(systemd, path).CallWithContext(ctx, method, 0, args...).Store(results...)
	if err != nil {
		return fmt.Errorf("ask systemd for %s: %w", method[strings.LastIndexByte(method, '.')+1:], err)
	}
	return nil
}

// follow subscribes to the signals that tell of changes. The channel is closed when the
// connection ends.
func (b *bus) follow(ctx context.Context) (<-chan *dbus.Signal, error) {
	// Gathers what comes while a scan asks systemd; more waits in godbus, in order.
	signals := make(chan *dbus.Signal, 64)
	b.conn.Signal(signals)
	for _, match := range [][]dbus.MatchOption{
		{dbus.WithMatchInterface(manager), dbus.WithMatchObjectPath(managerPath)},
		{dbus.WithMatchInterface(properties), dbus.WithMatchMember("PropertiesChanged"), dbus.WithMatchPathNamespace(managerPath + "/unit")},
		{dbus.WithMatchInterface("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, systemd)},
	} {
		if err := b.conn.AddMatchSignalContext(ctx, match...); err != nil {
			return nil, fmt.Errorf("subscribe to signals: %w", err)
		}
	}
	// Without a subscriber systemd sends nothing of its units.
	return signals, b.call(ctx, managerPath, manager+".Subscribe", nil)
}

// subscribeAgain subscribes at a systemd that was replaced. One that remembers us says so.
func (b *bus) subscribeAgain(ctx context.Context) error {
	err := b.call(ctx, managerPath, manager+".Subscribe", nil)
	var answer dbus.Error
	if errors.As(err, &answer) && answer.Name == systemd+".AlreadySubscribed" {
		return nil
	}
	return err
}

// listed is a row of ListUnits, org.freedesktop.systemd1(5).
type listed struct {
	Name, Description, Load, Active, Sub, Following string
	Path                                            dbus.ObjectPath
	JobID                                           uint32
	JobType                                         string
	JobPath                                         dbus.ObjectPath
}

// units returns the loaded units.
func (b *bus) units(ctx context.Context) ([]listed, error) {
	var rows []listed
	return rows, b.call(ctx, managerPath, manager+".ListUnits", nil, &rows)
}

// unitPath returns the directories that systemd reads unit files from, the ones that
// count most first.
func (b *bus) unitPath(ctx context.Context) ([]string, error) {
	var dirs []string
	return dirs, b.call(ctx, managerPath, properties+".Get", []any{manager, "UnitPath"}, &dirs)
}

// object returns where the object of a unit is.
func object(unit string) dbus.ObjectPath {
	return dbus.ObjectPath(unitPath + sd.PathBusEscape(unit))
}

// loaded reports whether systemd has a unit loaded. One must know before one asks for
// properties: to be asked for a unit that is not loaded makes systemd load it, and tell
// everybody that it came and went, us included.
func (b *bus) loaded(ctx context.Context, unit string) (bool, error) {
	var path dbus.ObjectPath
	err := b.call(ctx, managerPath, manager+".GetUnit", []any{unit}, &path)
	var answer dbus.Error
	if errors.As(err, &answer) && answer.Name == noSuchUnit {
		return false, nil
	}
	return err == nil, err
}

// property stores a property of a unit in dst.
func (b *bus) property(ctx context.Context, unit, iface, name string, dst any) error {
	return b.call(ctx, object(unit), properties+".Get", []any{iface, name}, dst)
}

// files returns the paths of a unit's file and of its drop-ins.
func (b *bus) files(ctx context.Context, unit string) ([]string, error) {
	var fragment string
	if err := b.property(ctx, unit, unitIface, "FragmentPath", &fragment); err != nil || fragment == "" {
		return nil, err
	}
	var dropIns []string
	err := b.property(ctx, unit, unitIface, "DropInPaths", &dropIns)
	return append([]string{fragment}, dropIns...), err
}

// state returns the state of a loaded unit.
func (b *bus) state(ctx context.Context, unit string) (State, error) {
	var s State
	for _, iface := range []string{unitIface, serviceIface} {
		if iface == serviceIface && suffix(unit) != ".service" {
			continue
		}
		var all map[string]dbus.Variant
		if err := b.call(ctx, object(unit), properties+".GetAll", []any{iface}, &all); err != nil {
			return State{}, err
		}
		s.update(all)
	}
	return s, nil
}

// usage returns what a service uses.
func (b *bus) usage(ctx context.Context, unit string) (Usage, error) {
	var memory, cpu uint64
	if err := b.property(ctx, unit, serviceIface, "MemoryCurrent", &memory); err != nil {
		return Usage{}, err
	}
	if err := b.property(ctx, unit, serviceIface, "CPUUsageNSec", &cpu); err != nil {
		return Usage{}, err
	}
	// All bits set is "[not set]".
	return Usage{
		MemoryBytes: memory, MemoryKnown: memory != math.MaxUint64,
		CPU: time.Duration(min(cpu, math.MaxInt64)), CPUKnown: cpu != math.MaxUint64,
	}, nil
}
