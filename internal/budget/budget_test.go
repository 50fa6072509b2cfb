package budget

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"sidecar/internal/spool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func put(q *Backlog, text, sender string, severity int) {
	q.Put(spool.Message{Text: []byte(text)}, sender, severity)
}

func texts(msgs []spool.Message) (all []string) {
	for _, m := range msgs {
		all = append(all, string(m.Text))
	}
	return all
}

// used returns the bytes that count.
func (b *Budget) used() int {
	s := b.Stats()
	return s.Claimed + s.Queued
}

// TestMemory: the sum of what waits never passes the limit, whoever floods, and each
// datagram comes out, is discarded and counted, or is in neither.
func TestMemory(t *testing.T) {
	b := New(20_000)
	sockets := []*Backlog{b.Backlog("syslog"), b.Backlog("gelf")}
	c := b.Claim(5000)
	for i := range 10_000 {
		sockets[i%2].Put(spool.Message{Text: make([]byte, i%700)}, fmt.Sprint("sender", i%1000), i%8)
		if n := b.used(); n > b.maxBytes {
			t.Fatalf("%d bytes after %d messages", n, i)
		}
		if i%10 == 0 {
			c.Give()
		} else if i%10 == 5 {
			c.Try()
		}
	}
	c.Give()
	n, discarded := uint64(0), uint64(0)
	for _, q := range sockets {
		for msgs, _ := q.Take(nil, 1); len(msgs) > 0; msgs, _ = q.Take(nil, 1) {
			n += uint64(len(msgs))
		}
		all := uint64(0)
		told := q.TakeDiscarded()
		for _, d := range told {
			all += d.Messages
		}
		if all != q.Discarded().Messages || len(told) > maxSenders+1 {
			t.Errorf("%d of %d discarded messages are told, of %d senders", all, q.Discarded().Messages, len(told))
		}
		discarded += all
	}
	counted := uint64(0)
	for _, n := range b.Stats().Discarded {
		counted += n
	}
	if b.used() != 0 || n+discarded != 10_000 || counted != discarded || len(b.Stats().Discarded) > 2*(maxSenders+1) {
		t.Errorf("%d bytes are left, %d messages came out, %d were discarded, %d counted", b.used(), n, discarded, counted)
	}
}

// TestFair: no sender that is quiet pays for one that floods, whatever their hashes are,
// and whatever socket they send to.
func TestFair(t *testing.T) {
	for range 20 {
		b := New(100 * (itemOverhead + 4))
		loud, calm := b.Backlog("syslog"), b.Backlog("gelf")
		for i := range 1000 {
			put(loud, "loud", "noisy", 6)
			if i%50 == 0 {
				put(calm, "calm", fmt.Sprint("quiet", i), 6)
			}
		}
		for i := range 1000 {
			calm.Begin("noisy", 1).Add(0, []byte{byte(i)})
		}
		got, _ := calm.Take(nil, 1<<20)
		if len(got) != 20 {
			t.Fatalf("%d of 20 are left", len(got))
		}
		for s := range b.Stats().Discarded {
			if s.Name != "noisy" {
				t.Fatalf("messages of %s are discarded", s)
			}
		}
	}
}

// TestOrder: messages come out as they came in, those that were discarded missing: of
// who floods, the oldest of those that matter least.
func TestOrder(t *testing.T) {
	b := New(6 * (itemOverhead + 4))
	q := b.Backlog("syslog")
	for i, m := range []struct {
		sender   string
		severity int
	}{{"a", 6}, {"b", 3}, {"b", -1}, {"b", 5}, {"a", 7}, {"b", 6}, {"b", 4}, {"b", 2}, {"b", 0}} {
		put(q, fmt.Sprintf("%03d%s", i, m.sender), m.sender, m.severity)
	}
	got, _ := q.Take(nil, 1<<20)
	if s := strings.Join(texts(got), " "); s != "000a 001b 004a 006b 007b 008b" {
		t.Errorf("got %s", s)
	}
	q.Close()
	if _, ended := q.Take(nil, 1); !ended {
		t.Error("it has not ended")
	}
}

// TestWhatIsBeingStoredCounts until the next call.
func TestWhatIsBeingStoredCounts(t *testing.T) {
	const each = itemOverhead + 4
	b := New(4 * each)
	q := b.Backlog("syslog")
	for range 4 {
		put(q, "text", "a", 6)
	}
	q.Take(nil, 2*each)
	put(q, "more", "a", 6)
	if n := q.Discarded().Messages; n != 1 || b.used() != 4*each {
		t.Errorf("%d are discarded, %d bytes count", n, b.used())
	}
	q.Take(nil, 1)
	put(q, "more", "a", 6)
	if n := q.Discarded().Messages; n != 1 {
		t.Errorf("%d are discarded", n)
	}
}

// TestPartial: parts count as they come, and may be discarded at any time.
func TestPartial(t *testing.T) {
	b := New(10_000)
	q := b.Backlog("gelf")
	p := q.Begin("a", 2)
	part := []byte("one ")
	if !p.Add(1, []byte("two")) || !p.Add(0, part) {
		t.Fatal("discarded")
	}
	part[0] = 'x'
	if n := b.used(); n != itemOverhead+2*partOverhead+7 {
		t.Errorf("%d bytes", n)
	}
	if parts, ok := p.End(); !ok || string(parts[0])+string(parts[1]) != "one two" || b.used() != 0 {
		t.Errorf("got %q", parts)
	}
	first, second := q.Begin("a", 2), q.Begin("a", 2)
	if second.Add(0, make([]byte, 20_000)) || first.Add(0, nil) {
		t.Error("more than the budget is held")
	}
	if _, ok := second.End(); ok || b.used() != 0 || q.Discarded() != (Discard{Messages: 2, Bytes: 20_000}) {
		t.Errorf("%d bytes are left, discarded %+v", b.used(), q.Discarded())
	}
}

// TestClaimsWaitInTheirOrder, a large one is not passed by small ones, and one that gives
// up lets on those behind it.
func TestClaimsWaitInTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(2000)
		full, large, small := b.Claim(900), b.Claim(1000), b.Claim(50)
		if !full.Try() || full.Wanted() {
			t.Fatal("the first claim does not get its memory")
		}
		ctx, cancel := context.WithCancel(context.Background())
		order := make(chan string, 2) // who went on
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := large.Take(ctx); !errors.Is(err, context.Canceled) || large.Held() {
				t.Errorf("got %v", err)
			}
			order <- "large"
		})
		synctest.Wait()
		wg.Go(func() {
			if err := small.Take(context.Background()); err != nil {
				t.Error(err)
			}
			order <- "small"
		})
		synctest.Wait()
		if len(order) > 0 || !full.Wanted() || b.Claim(1).Try() || b.Stats().Waiting != 2 {
			t.Errorf("%d went on, %+v", len(order), b.Stats())
		}
		cancel()
		synctest.Wait()
		if len(order) != 2 {
			t.Errorf("%d went on", len(order))
		}
		wg.Wait()
		again := b.Claim(5000) // counts as 1000
		wg.Go(func() {
			if err := again.Take(context.Background()); err != nil {
				t.Error(err)
			}
		})
		full.Give()
		full.Give()
		small.Give()
		wg.Wait()
		if n := b.used(); n != 1000 {
			t.Errorf("%d bytes are held", n)
		}
	})
}

// TestClaimsAndDatagrams: claims leave half to the datagrams; datagrams that keep coming
// leave to a claim what is freed, and claims no datagrams for themselves alone.
func TestClaimsAndDatagrams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const each = itemOverhead + 4
		b := New(20 * each)
		q := b.Backlog("syslog")
		for range 20 {
			put(q, "text", "a", 6)
		}
		c := b.Claim(8 * each)
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := c.Take(context.Background()); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		if n := q.Discarded().Messages; n > 0 || c.Held() {
			t.Errorf("%d datagrams are discarded for a claim", n)
		}
		for range 8 {
			q.Take(nil, each)
			q.Take(nil, 0) // it is stored
			put(q, "text", "a", 6)
		}
		wg.Wait()
		if n := q.Discarded().Messages; n > 8 {
			t.Errorf("%d datagrams are discarded", n)
		}
		if b.Claim(3 * each).Try() {
			t.Error("claims have more than half")
		}
		for range 20 {
			put(q, "text", "a", 6)
		}
		if s := b.Stats(); s.Queued != 12*each || s.Claimed != 8*each {
			t.Errorf("%+v", s)
		}
	})
}
