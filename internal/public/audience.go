package public

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"sidecar/internal/health"
)

// Monitor is a service that probes from outside, and how it is known.
type Monitor struct {
	// Name is the label in metrics: lower-case letters, digits and -.
	Name string
	// Agent is part of its User-Agent header, letter by letter.
	Agent string
}

// known are the monitors that are told apart without configuration, by what they call
// themselves. health.md section 2 has the sources of the first five.
var known = []Monitor{
	{"uptimerobot", "UptimeRobot/"},
	{"pingdom", "Pingdom.com_bot"},
	{"betterstack", "Better Uptime Bot"},
	{"betterstack", "Better Stack"},
	{"statuscake", "StatusCake"},
	{"freshping", "FreshpingBot/"},
	{"uptime-kuma", "Uptime-Kuma/"},
	{"site24x7", "Site24x7"},
	{"hetrixtools", "HetrixTools"},
	{"updown", "updown.io"},
	{"nodeping", "NodePing"},
	{"checkly", "Checkly"},
	{"datadog", "Datadog/Synthetics"},
	{"google", "GoogleStackdriverMonitoring-UptimeChecks"},
	{"route53", "Amazon-Route53-Health-Check-Service"},
	{"blackbox", "Blackbox Exporter"},
	{"healthd", "healthd/"},
}

// other is the name of everybody else.
const other = "other"

// DefaultQuiet is the default of AudienceOptions.Quiet: three times the longest usual
// interval of the monitors, five minutes.
const DefaultQuiet = 15 * time.Minute

// maxAgentBytes of a User-Agent are looked at.
const maxAgentBytes = 256

// codes are the statuses that a Handler answers with.
var codes = [...]int{http.StatusOK, http.StatusServiceUnavailable, http.StatusNotFound, http.StatusMethodNotAllowed}

// AudienceOptions are the settings of an Audience.
type AudienceOptions struct {
	// Monitors are looked for before the built-in ones.
	Monitors []Monitor
	// Expect are the names of monitors each of which has to come. Empty: any that has
	// come before.
	Expect []string
	// Quiet is how long a monitor may stay away. Default DefaultQuiet.
	Quiet time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Audience counts requests by monitor, and knows when none comes any more: a page
// that nobody looks at is no monitoring, and services that are shut down say nothing.
// Its methods can be called concurrently.
type Audience struct {
	options  AudienceOptions
	monitors []Monitor // immutable
	names    []string  // sorted, with other; immutable
	visitors []visitor // as names
	index    []int     // of monitors into names; immutable
	since    time.Time
}

type visitor struct {
	requests [len(codes)]atomic.Uint64
	last     atomic.Int64 // nanoseconds from Audience.since to the last GET or HEAD of a page, or never
}

// never is visitor.last of who has not come yet.
const never = math.MinInt64

// NewAudience returns an Audience that has seen nobody.
func NewAudience(o AudienceOptions) *Audience {
	if o.Quiet == 0 {
		o.Quiet = DefaultQuiet
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &Audience{options: o, monitors: slices.Concat(o.Monitors, known), since: o.Now()}
	a.names = append(a.names, other)
	for _, m := range a.monitors {
		a.names = append(a.names, m.Name)
	}
	slices.Sort(a.names)
	a.names = slices.Compact(a.names)
	a.visitors = make([]visitor, len(a.names))
	for i := range a.visitors {
		a.visitors[i].last.Store(never)
	}
	for _, m := range a.monitors {
		a.index = append(a.index, a.place(m.Name))
	}
	return a
}

func (a *Audience) place(name string) int {
	i, _ := slices.BinarySearch(a.names, name)
	return i
}

// identify returns the place of the monitor with that User-Agent.
func (a *Audience) identify(agent string) int {
	agent = agent[:min(len(agent), maxAgentBytes)]
	for i := range a.monitors {
		if strings.Contains(agent, a.monitors[i].Agent) {
			return a.index[i]
		}
	}
	return a.place(other)
}

// count notes a request that was answered with code.
func (a *Audience) count(r *http.Request, code int) {
	agent := ""
	if values := r.Header["User-Agent"]; len(values) > 0 {
		agent = values[0]
	}
	v := &a.visitors[a.identify(agent)]
	for i, c := range codes {
		if c == code {
			v.requests[i].Add(1)
		}
	}
	if code == http.StatusOK || code == http.StatusServiceUnavailable {
		v.last.Store(int64(a.options.Now().Sub(a.since)))
	}
}

// Last returns when each monitor came last; those that never came are not in it.
// Everybody who is no known monitor is "other".
func (a *Audience) Last() map[string]time.Time {
	now := a.options.Now()
	last := map[string]time.Time{}
	for i, name := range a.names {
		if d := a.visitors[i].last.Load(); d != never {
			// So long ago by the monotonic clock: it says when, by the clock as it is now.
			last[name] = now.Add(time.Duration(d) - now.Sub(a.since))
		}
	}
	return last
}

// Check is a check of the watching itself, to be run like any other: Warn if a
// monitor that is expected stays away, or, if none is, if all that came before do. The
// time in which nobody could come, as there was no Audience, does not count: after a
// machine was down for an hour, its monitors have not gone.
func (a *Audience) Check(context.Context) health.Result {
	now := a.options.Now()
	last := a.Last()
	delete(last, other)
	if len(a.options.Expect) > 0 {
		return a.expected(now, last)
	}
	var newest time.Time
	name := ""
	for n, at := range last {
		if at.After(newest) {
			newest, name = at, n
		}
	}
	switch {
	case name == "":
		return health.Result{State: health.Pass, Text: "no known monitor has come yet"}
	case now.Sub(a.sinceOr(newest)) > a.options.Quiet:
		return health.Result{State: health.Warn, Text: fmt.Sprintf("no monitor comes any more: the last was %s at %s", name, newest.UTC().Format(time.RFC3339))}
	}
	return health.Result{State: health.Pass}
}

// sinceOr returns the later one of a.since and at.
func (a *Audience) sinceOr(at time.Time) time.Time {
	if at.Before(a.since) {
		return a.since
	}
	return at
}

func (a *Audience) expected(now time.Time, last map[string]time.Time) health.Result {
	var away []string
	for _, name := range a.options.Expect {
		at, ok := last[name]
		if !ok {
			at = a.since
		}
		if now.Sub(a.sinceOr(at)) > a.options.Quiet {
			away = append(away, fmt.Sprintf("%s has not come since %s", name, at.UTC().Format(time.RFC3339)))
		}
	}
	if len(away) == 0 {
		return health.Result{State: health.Pass}
	}
	return health.Result{State: health.Warn, Text: strings.Join(away, "; ")}
}

// ErrState is returned by Restore for a document that Save has not made.
var ErrState = errors.New("public: not a saved state")

type savedAudience struct {
	Version int                  `json:"version"`
	Last    map[string]time.Time `json:"last"`
}

// Save returns who came when, as a small JSON document.
func (a *Audience) Save() ([]byte, error) {
	return json.Marshal(savedAudience{Version: 1, Last: a.Last()})
}

// Restore takes over what Save has returned: a monitor that went away before a restart
// is missed after it too. Times in the future and unknown names are left out. With
// ErrState nothing is changed.
func (a *Audience) Restore(b []byte) error {
	var s savedAudience
	if err := json.Unmarshal(b, &s); err != nil || s.Version != 1 {
		return fmt.Errorf("%w: version %d: %v", ErrState, s.Version, err)
	}
	now := a.options.Now()
	for name, at := range s.Last {
		i, ok := slices.BinarySearch(a.names, name)
		if ok && at.Unix() > 0 && !at.After(now) {
			v := &a.visitors[i]
			v.last.Store(max(v.last.Load(), int64(at.Sub(a.since))))
		}
	}
	return nil
}
