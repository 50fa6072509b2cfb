package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sidecar/internal/health"
)

// Heartbeats takes the word of jobs that they have run, by HTTP, and remembers the
// last one of each. It knows the names that checks were parsed for, and no others, so
// its size is bounded. All methods may be called concurrently.
type Heartbeats struct {
	now func() time.Time
	kept[beat]
}

// beat is the word of one job.
type beat struct {
	At      time.Time `json:"at,omitzero"`      // of the last end
	Started time.Time `json:"started,omitzero"` // of the run that has not ended; zero if there is none, or the job does not tell
	Failed  bool      `json:"failed,omitempty"`
	Text    string    `json:"text,omitempty"`
	Since   time.Time `json:"since,omitzero"` // when the job was first expected
}

// NewHeartbeats returns Heartbeats without names. now is the clock; nil: time.Now.
func NewHeartbeats(now func() time.Time) *Heartbeats {
	if now == nil {
		now = time.Now
	}
	return &Heartbeats{now: now}
}

// ServeHTTP takes a heartbeat: POST, PUT or GET of NAME, NAME/start, NAME/fail or
// NAME/<exit status>. The name is the path below the place where the handler hangs
// (http.StripPrefix). The first 128 bytes of a body are kept as a note. It answers
// 200, 404 for a name that no check expects, 405 for other methods.
//
// A GET changes what is remembered, as wget in a crontab sends one: so it belongs on
// the private listener only.
func (h *Heartbeats) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodPost && r.Method != http.MethodGet && r.Method != http.MethodPut {
		w.Header().Set("Allow", "GET, POST, PUT")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	name, how, _ := strings.Cut(strings.Trim(r.URL.Path, "/"), "/")
	note, err := io.ReadAll(io.LimitReader(r.Body, 128))
	if err != nil {
		http.Error(w, "the body cannot be read", http.StatusBadRequest)
		return
	}
	if !h.take(name, how, cutText(strings.TrimSpace(string(note)), 128)) {
		http.Error(w, "no check expects this", http.StatusNotFound)
		return
	}
	io.WriteString(w, "ok\n")
}

// take notes a heartbeat and reports whether it was expected.
func (h *Heartbeats) take(name, how, note string) bool {
	return h.change(name, func(b beat, expected bool) (beat, bool) {
		switch how {
		case "start":
			b.Started = h.now()
			return b, expected
		case "", "0":
			b.Failed, b.Text = false, note
		case "fail":
			b.Failed, b.Text = true, note
		default:
			code, err := strconv.ParseUint(how, 10, 8)
			if err != nil {
				return b, false
			}
			b.Failed, b.Text = true, strings.TrimSpace(fmt.Sprintf("exit status %d %s", code, note))
		}
		b.At, b.Started = h.now(), time.Time{}
		return b, expected
	})
}

// expect makes a name known.
func (h *Heartbeats) expect(name string) {
	h.change(name, func(_ beat, expected bool) (beat, bool) { return beat{Since: h.now()}, !expected })
}

// heartbeatCheck is the check of a job that reports by HTTP. Options: max_age, after
// which a job that says nothing has failed; max_run, after which one that has started
// and not ended has.
func heartbeatCheck(t *target) (Func, error) {
	name, beats, now := t.rest, t.env.Heartbeats, t.env.Now
	if name == "" || strings.ContainsAny(name, "/ \t?") {
		return nil, errors.New("want heartbeat:name")
	}
	if beats == nil {
		return nil, errors.New("nobody takes heartbeats here")
	}
	maxAge, maxRun := t.opt.duration("max_age", 0), t.opt.duration("max_run", 0)
	if maxAge <= 0 {
		t.opt.bad("max_age", errors.New("want the longest time between two heartbeats, such as 25h"))
	}
	if t.opt.err == nil {
		beats.expect(name)
	}
	return func(context.Context) health.Result {
		b, _ := beats.get(name)
		return b.judge(now(), maxAge, maxRun)
	}, nil
}

// judge tells a result. A job that was never heard of is given maxAge from when it
// was first expected, and is well until then: starting would be a failure after the
// grace of its node, which is shorter.
func (b beat) judge(now time.Time, maxAge, maxRun time.Duration) health.Result {
	switch {
	case b.At.IsZero() && now.Sub(b.Since) <= maxAge:
		return pass("no heartbeat yet, the first is due within %s", about(maxAge))
	case b.At.IsZero():
		return fail("no heartbeat for %s, and none before", about(maxAge))
	}
	age := now.Sub(b.At)
	r := pass("last heartbeat is younger than %s", about(maxAge))
	switch {
	case b.Failed:
		r = fail("the job says that it failed: %s", b.Text)
	case age > maxAge:
		r = fail("no heartbeat for more than %s", about(maxAge))
	case maxRun > 0 && !b.Started.IsZero() && now.Sub(b.Started) > maxRun:
		r = fail("the job has started and not ended within %s", about(maxRun))
	}
	return measured(r, "last_success_timestamp_seconds", float64(b.At.UnixMilli())/1e3)
}
