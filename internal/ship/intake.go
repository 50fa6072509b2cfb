package ship

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"sidecar/internal/gelf"
	"sidecar/internal/join"
	"sidecar/internal/record"
)

// intake is a source with what is held of its entries.
type intake struct {
	Source
	join  *join.Joiner
	ended bool // it returned io.EOF or an error
}

// forward wakes the line when a source is ready.
func (l *Line) forward(ctx context.Context, ready <-chan struct{}) error {
	for {
		select {
		case <-ready:
			select {
			case l.wake <- struct{}{}:
			default:
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// fillEntries bounds one fill, for entries that become no message.
const fillEntries = 10_000

// fill reads entries until the batch is full or no source has more, and reports
// whether there may be more at once. The sources take turns, a batch each, so that
// a busy one cannot hold up the others. After an error of a source no more is read.
func (l *Line) fill() bool {
	l.Metrics.setPhase(PhaseReading)
	now := time.Now()
	for range l.intakes {
		more := l.take(l.intakes[l.turn], now)
		l.turn = (l.turn + 1) % len(l.intakes)
		if more {
			return true
		}
	}
	return false
}

// take reads entries of one source until the batch is full, and reports whether it
// is, or there may be more.
func (l *Line) take(in *intake, now time.Time) bool {
	entries := fillEntries
	if l.window > 0 {
		entries = l.window
	}
	for range entries {
		if in.ended || l.readErr != nil {
			return false
		}
		ok, err := in.Next(&l.entry)
		if err != nil {
			in.ended = true
			if !errors.Is(err, io.EOF) {
				l.readErr = fmt.Errorf("read %s: %w", in.Name(), err)
			}
			return false
		}
		if !ok {
			return false
		}
		l.append(in, &l.entry, now)
		if len(l.unsent) >= l.batch {
			return true
		}
	}
	return true
}

// append takes e, the next entry of a source, and appends the frames of what is
// complete with it to the batch.
func (l *Line) append(in *intake, e *record.Entry, now time.Time) {
	l.resending = l.read < l.maxRead
	l.read++
	l.maxRead = max(l.maxRead, l.read)
	if !l.resending {
		l.Metrics.unit(in.Name(), e.Unit).read.Add(1)
	}
	in.join.Add(e, now)
	l.encode(in)
}

// encode parses the entries of a source that are complete and appends their frames
// to the batch.
func (l *Line) encode(in *intake) {
	for {
		e, ok := in.join.Next()
		if !ok {
			break
		}
		unit := l.Metrics.unit(in.Name(), e.Unit)
		l.lastUsec = max(l.lastUsec, e.TimeUsec)
		if l.State != nil || l.Replay {
			e.Seq = l.seq + 1 // so that a field of the line gives way to it
		}
		var left int
		l.recs, left = l.Pipeline.Records(l.recs[:0], e)
		l.frames(unit)
		unit.left.Add(uint64(left))
	}
	if len(l.recs) > maxKeepRecords {
		l.recs = nil // one line of many documents should not cost its memory for ever
	}
}

// frames appends the frames of l.recs to the batch.
func (l *Line) frames(unit *unitStats) {
	for i := range l.recs {
		r := &l.recs[i]
		l.seq++
		r.Seq = 0
		if l.State != nil {
			r.Seq = l.seq
		}
		start := len(l.unsent)
		l.unsent = append(gelf.Append(l.unsent, r, &l.Pipeline.GELF), 0)
		if l.leftOut(l.unsent[start:]) {
			l.unsent = l.unsent[:start]
			continue
		}
		unit.degraded(r.Degraded)
	}
	unit.add(len(l.recs), l.resending)
}

// summarise sends what is to be said about what is not sent: what a limit left
// out, and gaps. For a limit the time is, with a backlog, that of the latest
// entry; at the end everything is due.
func (l *Line) summarise(now time.Time, more, end bool) {
	usec := now.UnixMicro()
	switch {
	case end:
		usec = math.MaxInt64
	case more:
		usec = l.lastUsec
	}
	l.recs = l.Gaps.due(l.recs[:0], now)
	if l.Pipeline.Rules != nil {
		l.recs = l.Pipeline.Rules.Due(l.recs, usec)
	}
	for i := range l.recs {
		l.Pipeline.finish(&l.recs[i])
	}
	l.frames(l.Metrics.unit(l.Sources[0].Name(), nil))
}

// expire sends on what has waited long enough for more of it, or, with all,
// everything that waits.
func (l *Line) expire(now time.Time, all bool) {
	for _, in := range l.intakes {
		if all {
			in.join.Flush()
		} else {
			in.join.Expire(now)
		}
		l.encode(in)
	}
}

// held returns how many entries wait for more of them.
func (l *Line) held() (n int) {
	for _, in := range l.intakes {
		n += in.join.Pending()
	}
	return n
}

const maxKeepRecords = 64
