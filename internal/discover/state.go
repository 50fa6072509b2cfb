package discover

import (
	"math"
	"time"

	"github.com/godbus/dbus/v5"
)

// State is the state of a unit, as far as signals have told it.
type State struct {
	// Active is ActiveState of org.freedesktop.systemd1(5): active, reloading,
	// inactive, failed, activating, deactivating, maintenance; "" if systemd does
	// not know the unit. Sub is SubState: running, auto-restart, …
	Active, Sub string
	// Result says why a service failed: exit-code, signal, oom-kill, watchdog, …;
	// "success" if it did not.
	Result string
	// ExitStatus is that of the main process when it ended last.
	ExitStatus int32
	// Restarts counts the automatic restarts since somebody started the unit.
	Restarts uint32
	// Started is when the unit was started last, zero if never: another time is
	// another run.
	Started time.Time
	// Since is when Active changed last, zero if unknown.
	Since time.Time
	// MemoryMaxBytes is the limit of the unit's memory, 0 for none.
	MemoryMaxBytes uint64
	// Enabled is whether the unit is to be running whenever the machine is.
	Enabled bool
}

// Usage is what a unit uses of the machine. Known is false for what systemd does not
// account for.
type Usage struct {
	MemoryBytes uint64
	MemoryKnown bool
	// CPU is the processor time of all processes that the unit ever had, since it
	// was started.
	CPU      time.Duration
	CPUKnown bool
}

// update takes properties as systemd sends them: all of them at first, the changed ones
// later. It reports whether something became different.
func (s *State) update(properties map[string]dbus.Variant) bool {
	old := *s
	for name, v := range properties {
		switch name {
		case "ActiveState":
			store(v, &s.Active)
		case "SubState":
			store(v, &s.Sub)
		case "Result":
			store(v, &s.Result)
		case "ExecMainStatus":
			store(v, &s.ExitStatus)
		case "NRestarts":
			store(v, &s.Restarts)
		case "StateChangeTimestamp":
			s.Since = timestamp(v)
		case "InactiveExitTimestamp":
			s.Started = timestamp(v)
		case "MemoryMax":
			if store(v, &s.MemoryMaxBytes); s.MemoryMaxBytes == math.MaxUint64 {
				s.MemoryMaxBytes = 0 // "infinity"
			}
		case "UnitFileState":
			var state string
			store(v, &state)
			s.Enabled = isEnabled(state)
		}
	}
	return *s != old
}

// timestamp returns a time of systemd: microseconds since 1970, 0 for never.
func timestamp(v dbus.Variant) time.Time {
	var usec uint64
	if store(v, &usec); usec == 0 || usec > math.MaxInt64 {
		return time.Time{}
	}
	return time.UnixMicro(int64(usec))
}

// store sets dst to the value of a property, if that has the right type.
func store[T any](v dbus.Variant, dst *T) {
	if value, ok := v.Value().(T); ok {
		*dst = value
	}
}

// isEnabled reports whether a UnitFileState means that the unit is started at boot by
// somebody's decision. "static" units are not: others pull them in.
func isEnabled(state string) bool {
	switch state {
	case "enabled", "enabled-runtime", "generated":
		return true
	}
	return false
}
