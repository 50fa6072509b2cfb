package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sidecar/internal/health"
)

// logship checks the log shipper by its own metrics (docs/metrics.md).
type logship struct {
	metrics, ready *web
	warnLag        time.Duration
	failLag        time.Duration // 0: never
	headroom       time.Duration
	now            func() time.Time
	counters       *Counters
	lost           float64   // in the run before; negative: none. Owned by run
	lostAt         time.Time // when it was last more than before. Owned by run
}

// lossShown is how long a loss is shown: it is over within one run.
const lossShown = 10 * time.Minute

// logshipCheck is the check of logship: logship://host:port of its metrics.listen, or
// logship:///path of its socket.
//
// Options: warn (60s: how far reading, or confirmation, may be behind), fail (0: how
// far is a failure; 0 for none), headroom (10m: how soon journald may remove what is
// not read, before that is a failure), socket.
func logshipCheck(t *target) (Func, error) {
	if t.url == nil {
		return nil, errors.New("want logship://host:port")
	}
	host := t.url.Host
	if host == "" && len(t.url.Path) > 1 {
		if t.opt.has("socket") {
			return nil, errors.New("want a path or the option socket")
		}
		t.opt.values["socket"] = t.url.Path // so that newWeb finds it
	}
	if host == "" {
		host = "localhost"
	} else if t.url.Port() == "" {
		host += ":9478"
	}
	c := &logship{now: t.env.Now, counters: t.env.Counters, lost: -1}
	c.warnLag, c.failLag = t.opt.duration("warn", time.Minute), t.opt.duration("fail", 0)
	c.headroom = t.opt.duration("headroom", 10*time.Minute)
	if c.failLag > 0 && c.failLag < c.warnLag {
		t.opt.bad("fail", errors.New("it is below the limit of warn"))
	}
	var err error
	if c.metrics, err = newWeb(t, &url.URL{Scheme: "http", Host: host, Path: "/metrics"}, "GET"); err != nil {
		return nil, err
	}
	c.ready, err = newWeb(t, &url.URL{Scheme: "http", Host: host, Path: "/readyz"}, "GET")
	return c.run, err
}

func (c *logship) run(ctx context.Context) health.Result {
	page, err := c.metrics.get(ctx, nil, maxBodyBytes)
	if err != nil {
		return failed("metrics", err)
	}
	if page.code != 200 {
		return fail("metrics: status %d", page.code)
	}
	if page.tooLong {
		c.counters.TooLong.Add(1)
	}
	ready, err := c.ready.get(ctx, nil, maxBodyBytes)
	if err != nil {
		return failed("readyz", err)
	}
	why := ""
	if ready.code != 200 {
		why = cutText(strings.TrimSpace(string(ready.body)), 100)
		if why == "" {
			why = fmt.Sprintf("status %d", ready.code)
		}
	}
	return c.judge(readShipper(page.body), why)
}

// shipper is what the metrics of logship say. What is not there is 0.
type shipper struct {
	found           bool // it is logship
	lag, entries    float64
	lastConfirm     float64 // Unix seconds
	sent, confirmed float64
	spoolTrouble    bool
	spoolBytes      float64
	headroom        float64 // negative: not known
	lost            float64 // discarded, or in gaps
}

// readShipper reads the samples that matter from a page in the Prometheus text format.
// Lines that it does not understand are passed over.
func readShipper(page []byte) shipper {
	s := shipper{headroom: -1}
	for line := range bytes.Lines(page) {
		name, value, ok := sample(line)
		if !ok {
			continue
		}
		s.found = true
		switch name {
		case "lag_seconds":
			s.lag = max(s.lag, value)
		case "lag_entries":
			s.entries += value
		case "output_last_confirm_timestamp_seconds":
			s.lastConfirm = value
		case "messages_sent_total":
			s.sent += value
		case "messages_confirmed_total":
			s.confirmed += value
		case "spool_trouble":
			s.spoolTrouble = value > 0
		case "spool_bytes":
			s.spoolBytes = value
		case "journal_headroom_seconds":
			s.headroom = value
		case "buffer_discarded_total", "syslog_discarded_total", "gelf_discarded_total", "gap_entries_total":
			s.lost += value
		}
	}
	return s
}

// sample returns the name, without "logship_", and the value of a line such as
// `logship_lag_seconds{source="journal"} 0.5`.
func sample(line []byte) (name string, value float64, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte("logship_"))
	if !ok {
		return "", 0, false
	}
	end := bytes.IndexAny(rest, "{ \t")
	if end <= 0 {
		return "", 0, false
	}
	name = string(rest[:end])
	rest = rest[end:]
	if rest[0] == '{' { // a label's value may hold a brace; what follows the last is the value
		end = bytes.LastIndexByte(rest, '}')
		if end < 0 {
			return "", 0, false
		}
		rest = rest[end+1:]
	}
	words := bytes.Fields(rest)
	if len(words) == 0 {
		return "", 0, false
	}
	value, err := strconv.ParseFloat(string(words[0]), 64)
	if err != nil || value != value { // NaN
		return "", 0, false
	}
	return name, value, true
}

// judge tells a result. notReady is why logship says that it cannot do its job now; ""
// if it can.
func (c *logship) judge(s shipper, notReady string) health.Result {
	if !s.found {
		c.counters.Malformed.Add(1)
		return fail("what answers is not logship")
	}
	unconfirmed := 0.0 // seconds
	if s.sent > s.confirmed && s.lastConfirm > 0 {
		unconfirmed = max(0, seconds(c.now())-s.lastConfirm)
	}
	behind := max(s.lag, unconfirmed)
	if c.lost >= 0 && s.lost > c.lost { // it is less after logship was started anew
		c.lostAt = c.now()
	}
	c.lost = s.lost
	state, text := health.Pass, "ships"
	note := func(at health.State, why string) {
		if state == health.Pass {
			text = why
		} else {
			text += "; " + why
		}
		if state != health.Fail {
			state = at
		}
	}
	if s.spoolTrouble {
		note(health.Fail, "messages cannot be stored")
	}
	if s.headroom >= 0 && s.headroom < c.headroom.Seconds() && s.entries > 0 {
		note(health.Fail, "journald may soon remove what is not read")
	}
	if c.failLag > 0 && behind > c.failLag.Seconds() {
		note(health.Fail, "more than "+about(c.failLag)+" behind")
	} else if behind > c.warnLag.Seconds() {
		note(health.Warn, "more than "+about(c.warnLag)+" behind")
	}
	if notReady != "" {
		note(health.Warn, "not ready: "+notReady)
	}
	if !c.lostAt.IsZero() && c.now().Sub(c.lostAt) < lossShown {
		note(health.Warn, "messages were lost or discarded")
	}
	r := measured(result(state, "%s", text), "lag_seconds", s.lag)
	r = measured(r, "lag_entries", s.entries)
	r = measured(r, "unconfirmed_seconds", unconfirmed)
	r = measured(r, "spool_bytes", s.spoolBytes)
	return measured(r, "lost_total", s.lost)
}
