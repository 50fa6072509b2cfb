package syslog

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sidecar/internal/budget"
)

// TestRow22BurstIsCountedExactly: what came plus what the kernel counted is what
// was sent.
func TestRow22BurstIsCountedExactly(t *testing.T) {
	var mu sync.Mutex
	var told uint64
	r := listen(t, Options{Listen: "udp://127.0.0.1:0", ReceiveBufferBytes: 8 << 10, DiscardEvery: time.Millisecond, OnDiscard: func(d Discard) {
		mu.Lock()
		defer mu.Unlock()
		if d.Reason == "kernel" {
			told += d.Messages
		}
	}})
	// The buffer is set when the reader starts; until then it holds more than enough,
	// so the flood has to be larger than the largest.
	c := r.dial(t)
	const burst = 20_000
	for range burst {
		send(t, c, "<13>"+strings.Repeat("x", 300))
	}
	r.start(t)
	r.sink.await(t, 1)
	// The count comes along with a datagram that was queued behind the drops.
	sent := uint64(burst)
	eventually(t, "all are accounted for", func() bool {
		send(t, c, "<13>last")
		sent++
		s := r.Stats()
		return s.KernelMessages > 0 && s.Messages+s.KernelMessages == sent
	})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if s := r.Stats(); s.Messages+s.KernelMessages != sent || s.BacklogMessages > 0 || told != s.KernelMessages {
		t.Errorf("sent %d, told %d: %+v", sent, told, s)
	}
}

// TestRow23OneNoisyService: writers to a unix socket never wait; what
// memory cannot hold is discarded and counted, and told of once for each sender.
func TestRow23OneNoisyService(t *testing.T) {
	sink := newMemory()
	sink.hold = make(chan struct{})
	var mu sync.Mutex
	told := map[string]uint64{}
	r := listen(t, Options{Listen: "unixgram:" + t.TempDir() + "/log", Sink: sink, Budget: budget.New(100_000), DiscardEvery: time.Hour, OnDiscard: func(d Discard) {
		mu.Lock()
		defer mu.Unlock()
		if _, twice := told[d.Sender]; twice || d.Reason != "backlog" {
			t.Errorf("told %+v", d)
		}
		told[d.Sender] = d.Messages
	}}).start(t)
	c := r.dial(t)
	c.SetWriteDeadline(time.Now().Add(20 * time.Second))
	const quiet, noisy, errors = 20, 5_000, 30
	for i := range noisy {
		send(t, c, fmt.Sprintf("<14>noisy[1]: %d %s", i, strings.Repeat("x", 200)))
		if i%250 == 0 {
			send(t, c, fmt.Sprintf("<14>quiet[2]: %d", i))
		}
		if i < errors {
			send(t, c, fmt.Sprintf("<11>noisy[1]: error %d", i))
		}
	}
	close(sink.hold)
	eventually(t, "all are accounted for", func() bool {
		s := r.Stats()
		return s.Messages+s.BacklogMessages == quiet+noisy+errors
	})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, m := range sink.await(t, 1) {
		kind, _, _ := strings.Cut(string(m.Text), ":")
		kinds[kind]++
	}
	if kinds["<14>quiet[2]"] != quiet || kinds["<11>noisy[1]"] != errors || kinds["<14>noisy[1]"] > 1000 {
		t.Errorf("stored %v", kinds)
	}
	if len(told) != 1 || told["noisy"] != r.Stats().BacklogMessages {
		t.Errorf("told %v, %+v", told, r.Stats())
	}
}

// TestLongDatagrams are cut, and what is missing is counted.
func TestLongDatagrams(t *testing.T) {
	for _, address := range []string{"udp://127.0.0.1:0", "unixgram:" + t.TempDir() + "/d"} {
		r := listen(t, Options{Listen: address, MaxMessageBytes: 100}).start(t)
		c := r.dial(t)
		for _, n := range []int{99, 100, 101, 1000} {
			send(t, c, strings.Repeat("x", n))
		}
		send(t, c, "")
		send(t, c, "\n")
		got := r.sink.await(t, 4)
		if len(got[1].Text) != 100 || len(got[3].Text) != 100 {
			t.Errorf("%s: %q", address, texts(got))
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if s := r.Stats(); s.Cut != 2 || s.CutBytes != 901 || s.Messages != 4 {
			t.Errorf("%s: %+v", address, s)
		}
	}
}
