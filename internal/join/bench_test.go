package join

import (
	"fmt"
	"testing"
	"time"

	"sidecar/internal/record"
)

const accepted = `_jsonrc:{"amount":12.5,"level":"info","message":"order accepted","orderId":"A-1009","timestamp":"2026-11-17T08:15:30.123Z"}`

// trace returns a stack with its head, a document behind it.
func trace() []*record.Entry {
	entries := []*record.Entry{line(streamA, "Error: Timeout of 3000ms exceeded")}
	for range 8 {
		entries = append(entries, line(streamA, "    at OrderService.reserve (/srv/checkout-api/dist/services/order.service.js:1:59)"))
	}
	return append(entries, line(streamA, accepted))
}

func TestAllocations(t *testing.T) {
	for name, entries := range map[string][]*record.Entry{
		"document":                   {line(streamA, accepted)},
		"plain line":                 {line(streamA, "Server listening on http://0.0.0.0:3000")},
		"indented line":              {line(streamA, "  retries: 3"), line(streamA, accepted)},
		"syslog":                     {with(line(streamA, accepted), func(e *record.Entry) { e.StreamID, e.Transport = nil, []byte("syslog") })},
		"stack":                      trace(),
		"pieces":                     {piece(streamA, accepted), piece(streamA, accepted), line(streamA, accepted)},
		"document, another's pieces": {piece(streamB, "a"), line(streamA, accepted), line(streamB, "b")},
	} {
		t.Run(name, func(t *testing.T) {
			j := New(Options{MultiLine: true})
			var now time.Time
			if n := testing.AllocsPerRun(100, func() {
				for _, e := range entries {
					j.Add(e, now)
					for _, ok := j.Next(); ok; _, ok = j.Next() {
					}
				}
			}); n > 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

func BenchmarkJoin(b *testing.B) {
	bench := func(name string, j *Joiner, entries ...*record.Entry) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var now time.Time
			for i := range b.N {
				j.Add(entries[i%len(entries)], now)
				for _, ok := j.Next(); ok; _, ok = j.Next() {
				}
			}
		})
	}
	o := Options{MultiLine: true}
	bench("document", New(o), line(streamA, accepted))
	bench("plain", New(o), line(streamA, "Server listening on http://0.0.0.0:3000"))
	bench("stack", New(o), trace()...)
	for _, n := range []int{1, 16, maxGroups} {
		j := New(o)
		for i := range n {
			j.Add(piece(fmt.Sprintf("%032x", i), "x"), time.Time{})
		}
		bench(fmt.Sprintf("document, %d wait", n), j, line(streamA, accepted))
	}
}
