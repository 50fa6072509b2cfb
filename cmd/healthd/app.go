package main

import (
	"strings"
	"time"

	"sidecar/internal/discover"
	"sidecar/internal/health"
)

// app is a service to watch, wherever it was found.
type app struct {
	name   string
	source string // for people: "configuration", "payments@.service"
	key    string // of the configuration, for errors; "" for what was discovered

	weight    health.Weight
	public    string
	group     string
	dependsOn []string
	quorum    int // 0: half of the workers
	workers   []worker

	interval, timeout, grace, hold time.Duration // 0: defaults
	rise, fall, x, y               int           // 0: defaults
	limits                         limits

	sum []string // families of metrics, see parseSum
}

// worker is one process of an app, or one address of it.
type worker struct {
	name   string // "" if the app has no workers
	unit   string // "" without one
	checks []string
	// metrics is their place: a URL with options, a path on the server of the first check
	// over HTTP, or "" for none.
	metrics string
}

// ofUnit returns the app of a unit's section.
func ofUnit(a discover.App) app {
	s := a.Section
	result := app{
		name: a.Name, source: a.Workers[0].Unit, weight: health.Degraded,
		public: s.Public, group: s.Group, dependsOn: s.DependsOn, quorum: s.Quorum,
		interval: s.Interval, timeout: s.Timeout, grace: s.Grace,
		limits: limits{memoryBytes: float64(s.MemoryWarnBytes), cpuPercent: s.CPUWarnPercent}, sum: s.Sum,
	}
	if unit, instance, ok := strings.Cut(result.source, "@"); ok {
		result.source = unit + "@" + instance[strings.LastIndexByte(instance, '.'):]
	}
	switch {
	case s.Critical:
		result.weight = health.Critical
	case s.Info:
		result.weight = health.Info
	}
	for _, w := range a.Workers {
		result.workers = append(result.workers, worker{w.Name, w.Unit, w.Health, w.Metrics})
	}
	return result
}

// ofTarget returns the app of a target of the configuration, and what is wrong with it
// by the name of the key.
func ofTarget(name string, t Target) (a app, mistakes map[string]string) {
	mistakes = map[string]string{}
	a = app{
		name: name, source: "configuration", key: "target." + name, weight: parseWeight(t.Weight, mistakes),
		public: t.Public, group: t.Group, dependsOn: t.DependsOn, quorum: t.Quorum,
		interval: time.Duration(t.Interval), timeout: time.Duration(t.Timeout), grace: time.Duration(t.Grace), hold: time.Duration(t.Hold),
		rise: t.Rise, fall: t.Fall, x: t.X, y: t.Y, sum: t.Sum,
	}
	if len(t.Checks) == 0 {
		mistakes["checks"] = "want at least one check, such as http://127.0.0.1:3000/health"
	}
	names := []string{""}
	if t.Workers != "" {
		// The same words as in a unit.
		s, _, problems := discover.ParseSection("[" + discover.SectionName + "]\nWorkers=" + strings.ReplaceAll(t.Workers, "\n", " "))
		if len(problems) > 0 {
			_, why, _ := strings.Cut(problems[0], `"Workers": `)
			mistakes["workers"] = why
		} else {
			names = s.Workers
		}
	}
	for _, n := range names {
		w := worker{name: n, metrics: t.Metrics}
		if n != "" {
			w.metrics = strings.ReplaceAll(t.Metrics, "%i", n)
		}
		for _, check := range t.Checks {
			if n != "" {
				check = strings.ReplaceAll(check, "%i", n)
			}
			w.checks = append(w.checks, check)
		}
		a.workers = append(a.workers, w)
	}
	return a, mistakes
}

// parseWeight reads a weight; "" is degraded, as a service that nobody has said more
// about should not take the whole machine down.
func parseWeight(text string, mistakes map[string]string) health.Weight {
	if text == "" {
		return health.Degraded
	}
	w, err := health.ParseWeight(text)
	if err != nil {
		mistakes["weight"] = err.Error()
	}
	return w
}
