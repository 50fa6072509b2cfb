package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sidecar/internal/discover"
	"sidecar/internal/health"
	"sidecar/internal/probe"
)

const (
	// restartsWindow and manyRestarts: a service that dies this often is not well, even
	// if it runs whenever it is looked at.
	restartsWindow = 10 * time.Minute
	manyRestarts   = 3
	// cpuWindow is over how long the use of the processor is measured at least: a short
	// burst is what processors are for.
	cpuWindow = time.Minute
)

// limits are what is more than usual of a unit. 0 is no limit.
type limits struct{ memoryBytes, cpuPercent float64 }

// wrap adds to the check of a unit warnings of restarts, memory and processor time.
func (l limits) wrap(run probe.Func) probe.Func {
	var seen history
	return func(ctx context.Context) health.Result {
		r := run(ctx)
		if text := l.exceeded(&seen, time.Now(), r); text != "" && r.State == health.Pass {
			r.State, r.Text = health.Warn, text
		}
		return r
	}
}

// history is what a unit has used before. It is for one check.
type history struct {
	restarts  float64 // as last seen
	known     bool
	times     []time.Time // of restarts within the window
	cpu       float64     // seconds, at cpuAt
	cpuAt     time.Time
	cpuSample float64 // the last measured percentage
}

// exceeded returns what is more than usual, "" if nothing is.
func (l limits) exceeded(h *history, now time.Time, r health.Result) string {
	values := map[string]float64{}
	for _, v := range r.Values {
		values[v.Name] = v.Value
	}
	if n, ok := values["restarts_total"]; ok {
		if text := h.restarted(now, n); text != "" {
			return text
		}
	}
	if memory := values["memory_bytes"]; l.memoryBytes > 0 && memory > l.memoryBytes {
		return fmt.Sprintf("uses %.0f MiB of memory, more than %.0f", memory/(1<<20), l.memoryBytes/(1<<20))
	}
	if cpu, ok := values["cpu_seconds_total"]; ok && l.cpuPercent > 0 {
		if percent := h.used(now, cpu); percent > l.cpuPercent {
			return fmt.Sprintf("uses %.0f %% of a processor, more than %.0f", percent, l.cpuPercent)
		}
	}
	return ""
}

// restarted takes the number of restarts.
func (h *history) restarted(now time.Time, n float64) string {
	if h.known && n > h.restarts {
		for range min(int(n-h.restarts), manyRestarts) {
			h.times = append(h.times, now)
		}
	}
	h.restarts, h.known = n, true
	for len(h.times) > 0 && now.Sub(h.times[0]) > restartsWindow {
		h.times = h.times[1:]
	}
	if len(h.times) < manyRestarts {
		return ""
	}
	return fmt.Sprintf("%d restarts within %v", len(h.times), restartsWindow)
}

// used returns the percentage of a processor over the last cpuWindow or more.
func (h *history) used(now time.Time, seconds float64) float64 {
	switch {
	case h.cpuAt.IsZero() || seconds < h.cpu: // a new run counts from 0
		h.cpu, h.cpuAt, h.cpuSample = seconds, now, 0
	case now.Sub(h.cpuAt) >= cpuWindow:
		h.cpuSample = 100 * (seconds - h.cpu) / now.Sub(h.cpuAt).Seconds()
		h.cpu, h.cpuAt = seconds, now
	}
	return h.cpuSample
}

// asUnit puts a state in the words of package probe.
func asUnit(s discover.State, u discover.Usage) probe.Unit {
	unit := probe.Unit{LoadState: "loaded", ActiveState: s.Active, SubState: s.Sub, Result: s.Result, NRestarts: s.Restarts, MemoryBytes: -1, CPUSeconds: -1}
	if s.Active == "" {
		unit.LoadState = "not-found"
	}
	if u.MemoryKnown {
		unit.MemoryBytes = float64(u.MemoryBytes)
	}
	if u.CPUKnown {
		unit.CPUSeconds = u.CPU.Seconds()
	}
	return unit
}

// unitOf answers for systemd with what signals have told; only for what a unit uses
// systemd is asked.
func unitOf(f *discover.Follower) func(ctx context.Context, name string) (probe.Unit, error) {
	return func(ctx context.Context, name string) (probe.Unit, error) {
		s, err := f.State(name)
		if err != nil {
			return probe.Unit{}, err
		}
		var usage discover.Usage
		if s.Active == "active" && strings.HasSuffix(name, ".service") {
			// Without it the state is still known; the values are just not there.
			usage, _ = f.Usage(ctx, name)
		}
		return asUnit(s, usage), nil
	}
}
