package journal

import (
	"cmp"
	"log/slog"
	"math"
	"sync/atomic"
	"syscall"
	"time"
)

// The journal is the buffer of the shipper, and its fill level is the time until
// journald removes what was not read. journald removes whole archived files, the
// oldest first, when its files take more than they may, or too little is free. So
// the oldest unread entry is safe until as many bytes are written as are free now
// and as the files before its own take; the rate at which they are written is that
// of the last minutes, and at the start that of all that the journal holds. It is
// an estimate: the next minutes may bring more than the last ones.

// rateWindow is the time over which the rate of writing is averaged.
const rateWindow = 2 * time.Minute

// lowHeadroom is when to warn; unreadFor is how old what is unread must be then:
// a reader that keeps up has no backlog to lose.
const (
	lowHeadroom = time.Hour
	unreadFor   = time.Minute
)

// rate is an average of how many entries are written per second.
type rate struct {
	perSecond float64
	total     uint64
	at        time.Time
}

// add takes in how many entries were written in all at the time now.
func (r *rate) add(total uint64, now time.Time) {
	if passed := now.Sub(r.at); passed >= time.Second {
		latest := float64(total-min(total, r.total)) / passed.Seconds()
		r.perSecond += (latest - r.perSecond) * (1 - math.Exp(-passed.Seconds()/rateWindow.Seconds()))
		r.total, r.at = total, now
	}
}

// headroom estimates how long the oldest unread entry of the place p is safe. It
// is not known without the place's retention, without files, or when nothing is
// written.
func (r *Reader) headroom(p Place, now time.Time) (time.Duration, bool) {
	var entries, used, older uint64
	oldest, unread := uint64(math.MaxInt64), uint64(math.MaxInt64)
	for _, f := range r.files {
		if f.place != p.Root || f.gone || f.pinned {
			continue
		}
		entries += f.n
		used += f.diskBytes
		first := cmp.Or(f.firstUsec, uint64(now.UnixMicro()))
		oldest = min(oldest, first)
		if !f.drained() {
			unread = min(unread, first)
		}
	}
	if p.Retention == (Retention{}) || entries == 0 {
		return 0, false
	}
	written := r.written[p.Root]
	if written == nil { // all that the journal holds, over its time
		passed := max(now.Sub(time.UnixMicro(int64(oldest))), time.Second)
		written = &rate{perSecond: float64(entries) / passed.Seconds(), total: r.retired[p.Root] + entries, at: now}
		r.written[p.Root] = written
	}
	written.add(r.retired[p.Root]+entries, now)
	for _, f := range r.files {
		if f.place == p.Root && !f.gone && !f.pinned && f.archived() && f.firstUsec < unread {
			older += f.diskBytes
		}
	}
	perSecond := written.perSecond * float64(used) / float64(entries)
	if perSecond < 1 {
		return 0, false
	}
	limit := p.Retention.MaxUseBytes
	if _, free, err := space(p.Root); err == nil {
		limit = min(limit, used+free-min(used+free, p.Retention.KeepFreeBytes))
	}
	seconds := (float64(limit-min(limit, used)) + float64(older)) / perSecond
	return time.Duration(min(seconds, math.MaxInt32) * float64(time.Second)), true
}

// headroomGauge holds the last estimate for other goroutines, and when to warn.
type headroomGauge struct {
	nsec atomic.Int64 // 0: not known
	low  bool         // warned; owned by the source
}

// Headroom returns how long the oldest unread entry is safe from being removed by
// journald, as last estimated, and false if that is not known. It may be called by
// any goroutine.
func (s *Source) Headroom() (time.Duration, bool) {
	d := time.Duration(s.headroom.nsec.Load())
	return d, d > 0
}

// updateHeadroom estimates anew: the least of all places. age is that of the
// oldest unread entry.
func (s *Source) updateHeadroom(now time.Time, age time.Duration) {
	least := time.Duration(0)
	for _, p := range s.o.Places {
		if d, ok := s.r.headroom(p, now); ok && (least == 0 || d < least) {
			least = max(d, 1)
		}
	}
	s.headroom.nsec.Store(int64(least))
	low := least > 0 && least < lowHeadroom && age >= unreadFor
	if low != s.headroom.low {
		s.headroom.low = low
		if low {
			s.log().Warn("journald will soon remove entries that are not shipped", "dur", least.Round(time.Second), "behind", age.Round(time.Second))
		} else {
			s.log().Info("entries that are not shipped are safe again", "dur", least.Round(time.Second))
		}
	}
}

func (s *Source) log() *slog.Logger { return s.r.options.Log }

// blocks returns the disk space that a file takes, in bytes.
func blocks(sys any) uint64 { return uint64(sys.(*syscall.Stat_t).Blocks) * 512 }
