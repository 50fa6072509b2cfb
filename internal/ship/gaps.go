package ship

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sidecar/internal/record"
)

// Gap is something that exists, or existed, and cannot be shipped.
type Gap struct {
	// Reason is the name in metrics and in the field gap_reason.
	Reason string
	// Text says what happened in a few words, for people.
	Text string
	// Entries is how many are missing; 0 if that is not known, or none is.
	Entries uint64
	// Path is the file and Unit the service that it is about, if any.
	Path, Unit string
	// After and Before are the sequence numbers around the gap, 0 if not known.
	After, Before uint64
	// TimeUsec is when it was, in µs since the Unix epoch; 0 means when it is found.
	TimeUsec int64
	// Keep says that nobody finds it again after a restart: then it is in GapsName until
	// it is committed.
	Keep bool
	// Socket and Drops are set if the entries are datagrams that the kernel has dropped
	// on a socket: its number, and the kernel's count with them (see socket.Drops), which
	// Gaps.Drops returns to later processes.
	Socket uint64 `json:"-"`
	Drops  uint32 `json:"-"`
}

// Gaps makes of every gap a count and a message. A message is sent again until
// it is committed, as an entry is; so that a gap is told even if the connection
// fails just then. After a restart the source finds the gap again, or it was kept.
type Gaps struct {
	metrics *Metrics

	path, boot string        // of the file; empty before Open
	changed    chan struct{} // capacity 1: what is to be kept has changed
	saving     sync.Mutex    // held while the file is written; taken before mu

	mu   sync.Mutex
	list []Gap  // guarded by mu: not committed, in the order in which they were found
	sent int    // guarded by mu: so many of them are in messages
	gone uint64 // guarded by mu: so many were before them
	// before is what earlier processes have told of the drops of sockets, drops what is
	// told of those that exist. Guarded by mu.
	before, drops map[uint64]uint32
}

// maxGaps bounds the gaps that are found in one go: those above are merged with
// the last one of the same reason. What is sent is bounded by the next commit.
const maxGaps = 1000

// gapID begins the _event_id of every message about a gap, and of no other.
const gapID = "gap-"

// NewGaps returns Gaps that count in m.
func NewGaps(m *Metrics) *Gaps {
	return &Gaps{metrics: m, changed: make(chan struct{}, 1), drops: map[uint64]uint32{}}
}

// Add takes a gap. Gaps of one file or service that are found in one go make one
// message. It may be called by any goroutine.
func (g *Gaps) Add(gap Gap) {
	g.metrics.Gap(gap.Reason, gap.Entries)
	g.mu.Lock()
	defer g.mu.Unlock()
	if gap.Keep {
		gap.TimeUsec = cmp.Or(gap.TimeUsec, time.Now().UnixMicro())
		defer g.touch()
	}
	if gap.Socket != 0 {
		g.drops[gap.Socket] = gap.Drops
		gap.Socket, gap.Drops = 0, 0
	}
	for i := len(g.list) - 1; i >= g.sent; i-- {
		m := &g.list[i]
		same := m.Path == gap.Path && m.Unit == gap.Unit && m.Before == 0 && gap.Before == 0
		if m.Reason != gap.Reason || !same && len(g.list)-g.sent < maxGaps {
			continue
		}
		m.Entries += gap.Entries
		if !same {
			m.Path, m.Unit, m.After, m.Before = "", "", 0, 0
		}
		return
	}
	g.list = append(g.list, gap)
}

// due appends the messages of gaps that are not sent to dst and returns it.
func (g *Gaps) due(dst []record.Record, now time.Time) []record.Record {
	g.mu.Lock()
	defer g.mu.Unlock()
	for ; g.sent < len(g.list); g.sent++ {
		m := &g.list[g.sent]
		m.TimeUsec = cmp.Or(m.TimeUsec, now.UnixMicro())
		dst = append(dst, m.record())
	}
	return dst
}

// position returns the number, among all gaps, of the first that is in no message.
func (g *Gaps) position() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.gone + uint64(g.sent)
}

// commit forgets what is before a position: it will not be sent again.
func (g *Gaps) commit(position uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := int(position - g.gone)
	if n == 0 {
		return
	}
	if slices.ContainsFunc(g.list[:n], func(m Gap) bool { return m.Keep }) {
		g.touch()
	}
	g.list = append([]Gap(nil), g.list[n:]...)
	g.sent -= n
	g.gone = position
}

// rewind makes everything due again that is not committed.
func (g *Gaps) rewind() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sent = 0
}

// record returns the message about m. Its ID depends on m alone.
func (m *Gap) record() record.Record {
	text := func(s string) record.Value { return record.Value{Kind: record.Text, Bytes: []byte(s)} }
	number := func(n uint64) record.Value {
		return record.Value{Kind: record.Number, Bytes: strconv.AppendUint(nil, min(n, math.MaxInt64), 10)}
	}
	short := m.Text
	switch {
	case m.Entries == 1:
		short += ": 1 entry"
	case m.Entries > 0:
		short += fmt.Sprintf(": %d entries", m.Entries)
	}
	r := record.Record{TimeUsec: m.TimeUsec, Level: 4, Short: text(short)}
	add := func(name string, v record.Value, known bool) {
		if known {
			r.Fields = append(r.Fields, record.Field{Name: record.NewName(name), Value: v})
		}
	}
	add("gap_reason", text(m.Reason), true)
	add("gap_entries", number(m.Entries), m.Entries > 0)
	add("gap_path", text(m.Path), m.Path != "")
	add("gap_after", number(m.After), m.Before > 0)
	add("gap_before", number(m.Before), m.Before > 0)
	add("service_name", text(m.Unit), strings.TrimSpace(m.Unit) != "")
	h := fnv.New64a()
	fmt.Fprint(h, m.Reason, "\x00", m.Path, "\x00", m.Unit, "\x00", m.After, m.Before, m.TimeUsec)
	r.ID = fmt.Appendf(nil, gapID+"%016x", h.Sum64())
	return r
}
