package probe

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"sidecar/internal/health"
)

// Unit is the state of a systemd unit, as its D-Bus properties of the same names
// (org.freedesktop.systemd1(5)) tell it.
type Unit struct {
	// LoadState is "loaded", "not-found", "masked", "error", …; "" counts as loaded.
	LoadState string
	// ActiveState is "active", "reloading", "inactive", "failed", "activating" or
	// "deactivating"; "" is a unit that systemd does not know. SubState says more, by
	// the type of the unit.
	ActiveState, SubState string
	// Result is why the unit failed last: "success", "exit-code", "oom-kill", …
	Result string
	// NRestarts is how often systemd has restarted it by itself.
	NRestarts uint32
	// MemoryBytes is MemoryCurrent, CPUSeconds is CPUUsageNSec in seconds; negative if
	// not known.
	MemoryBytes, CPUSeconds float64
}

// Health judges the unit. A service that waits for its next restart after a crash is
// "activating (auto-restart)" for systemd, and has failed here. idle says that the
// unit may be inactive as long as its last run went well: a job of a timer.
func (u Unit) Health(idle bool) health.Result {
	r := result(u.state(idle), "%s", u.describe())
	r = measured(r, "restarts_total", float64(u.NRestarts))
	if u.MemoryBytes >= 0 {
		r = measured(r, "memory_bytes", u.MemoryBytes)
	}
	if u.CPUSeconds >= 0 {
		r = measured(r, "cpu_seconds_total", u.CPUSeconds)
	}
	return r
}

func (u Unit) state(idle bool) health.State {
	if u.LoadState != "" && u.LoadState != "loaded" {
		return health.Fail
	}
	switch u.ActiveState {
	case "active":
		return health.Pass
	case "reloading", "refreshing", "deactivating":
		return health.Warn
	case "activating":
		if strings.HasPrefix(u.SubState, "auto-restart") {
			return health.Fail
		}
		if idle { // a job is activating for as long as it runs
			return health.Pass
		}
		return health.Starting
	case "inactive":
		if idle && (u.Result == "" || u.Result == "success") {
			return health.Pass
		}
		return health.Fail
	case "failed", "maintenance", "":
		return health.Fail
	}
	return health.Unknown
}

func (u Unit) describe() string {
	if u.LoadState != "" && u.LoadState != "loaded" {
		return "unit is " + cutText(u.LoadState, 40)
	}
	if u.ActiveState == "" {
		return "systemd does not know the unit"
	}
	text := fmt.Sprintf("%s (%s)", cutText(u.ActiveState, 40), cutText(u.SubState, 40))
	if u.Result != "" && u.Result != "success" && u.ActiveState != "active" {
		text += ", last result: " + cutText(u.Result, 40)
	}
	return text
}

// unitCheck is the check of a systemd unit, through Env.Unit. Options: idle (yes for
// a unit that runs now and then).
func unitCheck(t *target) (Func, error) {
	name, idle, ask := t.rest, t.opt.bool("idle", false), t.env.Unit
	if !strings.Contains(name, ".") || strings.ContainsAny(name, "/ ") {
		return nil, errors.New("want unit:name.service")
	}
	if ask == nil {
		return nil, errors.New("nobody can be asked for units here")
	}
	return func(ctx context.Context) health.Result {
		u, err := ask(ctx, name)
		if err != nil { // systemd does not answer, which says nothing about the unit
			return result(health.Unknown, "ask for the unit: %s", cause(err))
		}
		return u.Health(idle)
	}, nil
}
