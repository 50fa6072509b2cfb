package rules

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"sidecar/internal/record"
)

const (
	// maxUnits bounds the units that have a limit of their own; the others share
	// one. Units are an operator's, but identifiers can be made up by a sender.
	maxUnits     = 1000
	maxUnitBytes = 256
	maxRate      = 1_000_000
	maxBurst     = 1_000_000_000
	// lastUsec is the last time that is taken for one: then nanoseconds fit.
	lastUsec = math.MaxInt64 / 2000
)

// UnitState is the state of one unit's limit, a token bucket. It is made to be
// saved beside the positions of the sources, as JSON or in memory.
type UnitState struct {
	// Unit is the unit, or for messages without one the syslog identifier; empty
	// for all the others.
	Unit string `json:"unit"`
	// CreditNsec is how much time the unit has saved up, in nanoseconds; a
	// message costs one second divided by the rate.
	CreditNsec int64 `json:"credit_nsec"`
	// TimeUsec is the time of the latest message.
	TimeUsec int64 `json:"time_usec"`
	// Suppressed is the number of messages that the next summary will report;
	// SinceUsec and UntilUsec are the times of the first and of the latest.
	Suppressed uint64 `json:"suppressed,omitempty"`
	SinceUsec  int64  `json:"since_usec,omitempty"`
	UntilUsec  int64  `json:"until_usec,omitempty"`
	// ID and Host are those of the first suppressed message.
	ID   string `json:"id,omitempty"`
	Host string `json:"host,omitempty"`
}

// limiter is the limit of all units.
type limiter struct {
	costNsec    int64 // of a message; 0: no limit. Immutable.
	burstNsec   int64 // the most credit. Immutable.
	summaryUsec int64 // immutable
	units       map[string]*UnitState
	count       atomic.Uint64
}

// configure fills l and returns what is wrong with o.
func (l *limiter) configure(o Limits) (errs []error) {
	if o.Rate < 0 || o.Rate > maxRate {
		errs = append(errs, &Error{"limits.rate", fmt.Errorf("want messages per second, 1 to %d, or 0 for no limit, found %d", maxRate, o.Rate)})
	}
	if o.Burst < 0 || o.Burst > maxBurst {
		errs = append(errs, &Error{"limits.burst", fmt.Errorf("want the messages that may come at once, 1 to %d, or 0 for ten seconds of rate, found %d", maxBurst, o.Burst)})
	}
	if o.Rate == 0 && o.Burst > 0 {
		errs = append(errs, &Error{"limits.burst", errors.New("without limits.rate there is no limit: set rate, or leave burst out")})
	}
	if o.Rate > 0 && o.Summary <= 0 {
		errs = append(errs, &Error{"limits.summary", errors.New("want the time that a summary covers, more than 0s: what is suppressed must be told")})
	}
	if len(errs) > 0 || o.Rate == 0 {
		return errs
	}
	l.costNsec = int64(time.Second) / int64(o.Rate)
	burst := int64(o.Burst)
	if burst == 0 {
		burst = 10 * int64(o.Rate)
	}
	if burst > math.MaxInt64/4/l.costNsec {
		burst = math.MaxInt64 / 4 / l.costNsec
	}
	l.burstNsec = burst * l.costNsec
	l.summaryUsec = max(o.Summary.Microseconds(), 1)
	l.units = map[string]*UnitState{}
	return nil
}

// allow reports whether rec, a record of e, is within the limit of its unit. A
// record whose source knows no time has no rate, and so no limit.
func (l *limiter) allow(e *record.Entry, rec *record.Record) bool {
	const mostSevereLimited = 4 // errors are never limited
	if l.costNsec == 0 || rec.Level < mostSevereLimited || e.TimeUsec <= 0 || e.TimeUsec > lastUsec {
		return true
	}
	u := l.unit(e)
	// A clock that was set back gives no credit, and takes none.
	if elapsed := e.TimeUsec - u.TimeUsec; elapsed > 0 {
		u.CreditNsec = min(u.CreditNsec+min(elapsed*1000, l.burstNsec), l.burstNsec)
	}
	u.TimeUsec = e.TimeUsec
	if u.CreditNsec >= l.costNsec {
		u.CreditNsec -= l.costNsec
		return true
	}
	if u.Suppressed == 0 {
		u.SinceUsec, u.ID, u.Host = e.TimeUsec, string(rec.ID), string(rec.Host)
	}
	u.Suppressed++
	u.UntilUsec = e.TimeUsec
	l.count.Add(1)
	return false
}

// unit returns the state of the unit of e.
func (l *limiter) unit(e *record.Entry) *UnitState {
	name := e.Unit
	if len(name) == 0 {
		name = e.Identifier
	}
	name = name[:min(len(name), maxUnitBytes)]
	if u := l.units[string(name)]; u != nil {
		return u
	}
	if len(l.units) >= maxUnits {
		name = nil
		if u := l.units[""]; u != nil {
			return u
		}
	}
	u := &UnitState{Unit: string(name), CreditNsec: l.burstNsec, TimeUsec: e.TimeUsec}
	l.units[u.Unit] = u
	return u
}

// Due appends a summary to dst for each unit of which messages were suppressed,
// if the first of them is older than Limits.Summary at the time nowUsec, and
// returns it. They have memory of their own.
//
// nowUsec is in microseconds since the Unix epoch: the time of the latest entry
// while there is a backlog, the clock's when there is none, and math.MaxInt64 for
// all summaries, when shipping ends. A summary depends on what was suppressed and
// not on when it is asked for. Its ID is made of that of the first message that
// it counts, so it is the same when that is read again.
func (r *Rules) Due(dst []record.Record, nowUsec int64) []record.Record {
	l := &r.limiter
	if len(l.units) == 0 {
		return dst
	}
	var due []*UnitState
	for name, u := range l.units {
		switch {
		case u.Suppressed > 0 && nowUsec-l.summaryUsec >= u.SinceUsec:
			due = append(due, u)
		case u.Suppressed == 0 && nowUsec <= lastUsec && u.TimeUsec+l.burstNsec/1000 < nowUsec:
			delete(l.units, name) // it has all its credit again, as a new one has
		}
	}
	slices.SortFunc(due, func(a, b *UnitState) int { return strings.Compare(a.Unit, b.Unit) })
	for _, u := range due {
		dst = append(dst, record.Record{})
		u.summarize(&dst[len(dst)-1])
		u.Suppressed, u.SinceUsec, u.UntilUsec, u.ID, u.Host = 0, 0, 0, "", ""
	}
	return dst
}

// summarize makes r the summary of what was suppressed.
func (u *UnitState) summarize(r *record.Record) {
	seconds := max((u.UntilUsec-u.SinceUsec+999_999)/1_000_000, 1)
	unit := strings.TrimSuffix(u.Unit, ".service")
	text := func(s string) record.Value { return record.Value{Kind: record.Text, Bytes: []byte(s)} }
	if strings.TrimSpace(unit) == "" {
		unit = "other services"
	} else {
		r.Fields = append(r.Fields, record.Field{Name: record.NewName("service_name"), Value: text(u.Unit)})
	}
	number := func(n uint64) record.Value {
		return record.Value{Kind: record.Number, Bytes: strconv.AppendUint(nil, n, 10)}
	}
	r.Fields = append(r.Fields,
		record.Field{Name: record.NewName("suppressed_messages"), Value: number(min(u.Suppressed, math.MaxInt64))},
		record.Field{Name: record.NewName("suppressed_seconds"), Value: number(uint64(seconds))})
	r.Short = text(fmt.Sprintf("%s messages of %s suppressed in %d s", thousands(u.Suppressed), unit, seconds))
	r.TimeUsec, r.Level, r.Host = u.UntilUsec, 4, []byte(u.Host)
	if u.Suppressed == 1 {
		r.Short = text(fmt.Sprintf("1 message of %s suppressed in %d s", unit, seconds))
	}
	if u.ID != "" {
		r.ID = []byte(u.ID + "-suppressed")
	}
}

// thousands returns n with commas.
func thousands(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// State appends the state of every unit's limit to dst, sorted by unit, and
// returns it. Without a limit there is none. What Restore is given later makes
// the limit decide about the same records in the same way; so it belongs to a
// position of the sources.
func (r *Rules) State(dst []UnitState) []UnitState {
	start := len(dst)
	for _, u := range r.limiter.units {
		dst = append(dst, *u)
	}
	slices.SortFunc(dst[start:], func(a, b UnitState) int { return strings.Compare(a.Unit, b.Unit) })
	return dst
}

// Restore replaces the state of all units by what State returned, now or in an
// earlier process with other limits. It does nothing without a limit. Values that
// State cannot have returned are made possible ones.
func (r *Rules) Restore(units []UnitState) {
	l := &r.limiter
	if l.costNsec == 0 {
		return
	}
	clear(l.units)
	for _, u := range units {
		if len(l.units) > maxUnits {
			return
		}
		u.CreditNsec = min(max(u.CreditNsec, 0), l.burstNsec)
		u.TimeUsec = min(max(u.TimeUsec, 0), lastUsec)
		u.SinceUsec = min(max(u.SinceUsec, 0), lastUsec)
		u.UntilUsec = min(max(u.UntilUsec, u.SinceUsec), lastUsec)
		l.units[u.Unit] = &u
	}
}
