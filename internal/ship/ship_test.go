package ship

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sidecar/internal/gelf"
	"sidecar/internal/gelf/gelftest"
	"sidecar/internal/output"
	"sidecar/internal/parse"
	"sidecar/internal/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const limit = 30 * time.Second

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// memory is a source of the messages 0 to n-1, as a journal that grows. Its
// position is the number of the next message; every entry has an ID.
type memory struct {
	name  string
	ready chan struct{}

	mu        sync.Mutex
	n         int  // entries that exist
	ends      bool // io.EOF after them
	failAt    int  // Next fails at this entry, if not 0
	next      int
	committed int
	rewinds   int
	oldest    int // the earliest position of a Rewind
	message   func(int) string
	unit      func(int) string
	piece     func(e *record.Entry, i int) // makes the entry one of several
}

func newMemory(n int) *memory {
	return &memory{name: "memory", ready: make(chan struct{}, 1), n: n, oldest: n,
		message: strconv.Itoa, unit: func(i int) string { return "u" + strconv.Itoa(i%3) }}
}

func (s *memory) Name() string                  { return s.name }
func (s *memory) Ready() <-chan struct{}        { return s.ready }
func (s *memory) Idle(time.Time) time.Duration  { return time.Minute }
func (s *memory) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (s *memory) lock() func()                  { s.mu.Lock(); return s.mu.Unlock }
func (s *memory) at(raw json.RawMessage) (int, error) {
	var p struct{ Next int }
	err := json.Unmarshal(raw, &p)
	return p.Next, err
}

// grow adds n entries.
func (s *memory) grow(n int) {
	defer s.lock()()
	s.n += n
	s.wake()
}

// end says that there will be no more.
func (s *memory) end() {
	defer s.lock()()
	s.ends = true
	s.wake()
}

func (s *memory) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

var errBroken = errors.New("broken source")

func (s *memory) Next(e *record.Entry) (bool, error) {
	defer s.lock()()
	switch {
	case s.failAt > 0 && s.next == s.failAt:
		return false, errBroken
	case s.next < s.n:
	case s.ends:
		return false, io.EOF
	default:
		return false, nil
	}
	*e = record.Entry{Message: []byte(s.message(s.next)), Unit: []byte(s.unit(s.next)), ID: fmt.Appendf(nil, "id-%d", s.next), Priority: 6,
		Origin: record.Origin{Before: uint64(s.next)}}
	if s.piece != nil {
		s.piece(e, s.next)
	}
	s.next++
	return true, nil
}

func (s *memory) Position(held []record.Origin) (json.RawMessage, error) {
	defer s.lock()()
	next := s.next
	for _, h := range held {
		next = min(next, int(h.Before))
	}
	return fmt.Appendf(nil, `{"Next":%d}`, next), nil
}

func (s *memory) Rewind(raw json.RawMessage) error {
	defer s.lock()()
	p, err := s.at(raw)
	if err != nil {
		return err
	}
	if p < s.committed {
		return fmt.Errorf("rewind to %d, %d is committed", p, s.committed)
	}
	s.rewinds++
	s.oldest = min(s.oldest, p)
	s.next = p
	return nil
}

func (s *memory) Commit(raw json.RawMessage) error {
	defer s.lock()()
	p, err := s.at(raw)
	if err != nil {
		return err
	}
	if p < s.committed || p > s.next {
		return fmt.Errorf("commit %d, between %d and %d", p, s.committed, s.next)
	}
	s.committed = p
	return nil
}

func (s *memory) Lag(time.Time) (uint64, time.Duration) {
	defer s.lock()()
	return uint64(s.n - s.next), time.Duration(s.n-s.next) * time.Second
}

// logs is a logger's output that can be read while it is written.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logs) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

// bench is a line with what is around it.
type bench struct {
	t            *testing.T
	in           *gelftest.Input
	got          *gelftest.Log
	logs         *logs
	options      Options
	change       func(*Line) // before Run
	closeTimeout time.Duration
	stop         context.CancelFunc
	done         chan error
}

// newBench returns a line, not running, from source to a receiver of its own.
func newBench(t *testing.T, sources ...Source) *bench {
	t.Helper()
	b := &bench{t: t, got: gelftest.NewLog("message", "event_id", "seq"), logs: new(logs), done: make(chan error, 1), closeTimeout: limit}
	b.in = gelftest.Start(t, gelftest.Options{TCP: "127.0.0.1:0", Sink: b.got.Add})
	b.options = Options{
		Sources:  sources,
		Pipeline: Pipeline{Parser: parse.New(parse.Options{}), GELF: gelf.Options{Host: "h"}},
		Log:      slog.New(slog.NewTextHandler(b.logs, nil)),
		Metrics:  NewMetrics(100),
	}
	return b
}

// open makes dir the line's state directory; the caller closes it.
func (b *bench) open(dir string) *StateDir {
	b.t.Helper()
	d, err := OpenStateDir(dir)
	if err != nil {
		b.t.Fatal(err)
	}
	b.options.State = d
	return d
}

// state makes dir the line's state directory until the test ends.
func (b *bench) state(dir string) {
	b.t.Helper()
	d := b.open(dir)
	b.t.Cleanup(func() { d.Close() })
}

func (b *bench) start() *Line {
	b.options.Output = output.NewTCP(output.TCPOptions{Address: b.in.Addr("tcp"), CloseTimeout: b.closeTimeout})
	ctx, cancel := context.WithCancel(context.Background())
	b.stop = cancel
	b.t.Cleanup(cancel)
	line := New(b.options)
	line.backoff = backoff{base: 2 * time.Millisecond, cap: 20 * time.Millisecond}
	if b.change != nil {
		b.change(line)
	}
	go func() { b.done <- line.Run(ctx) }()
	return line
}

// wait returns what Run returned.
func (b *bench) wait() error {
	b.t.Helper()
	select {
	case err := <-b.done:
		return err
	case <-time.After(limit):
		b.t.Fatal("Run does not end")
		return nil
	}
}

func (b *bench) mustEnd() {
	b.t.Helper()
	if err := b.wait(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) waitFor(n int) {
	b.t.Helper()
	if err := b.got.WaitFor(within(b.t), n); err != nil {
		b.t.Fatal(err)
	}
}

// until polls for what no signal tells.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx := within(t)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("not in time: " + what)
		}
	}
}

// check fails unless 0 to n-1 all came, each with its own ID and sequence
// number, and in order for a receiver that leaves out what it has seen. It says
// how many came again.
func check(t *testing.T, log *gelftest.Log, n int, withSeq bool) (again int) {
	t.Helper()
	next := 0
	for _, r := range log.Messages() {
		i, err := strconv.Atoi(r.Values[0])
		if err != nil || i >= n {
			t.Fatalf("message %q", r.Values[0])
		}
		seq := ""
		if withSeq {
			seq = strconv.Itoa(i + 1)
		}
		if r.Values[1] != "id-"+r.Values[0] || r.Values[2] != seq {
			t.Fatalf("message %d has ID %q and sequence number %q", i, r.Values[1], r.Values[2])
		}
		switch {
		case i < next:
			again++
		case i > next:
			t.Fatalf("message %d arrives where %d should, on connection %d", i, next, r.Conn)
		default:
			next++
		}
	}
	if next != n {
		t.Fatalf("message %d of %d is lost", next, n)
	}
	return again
}

// wantOnce checks that 0 to n-1 came exactly once and in order.
func wantOnce(t *testing.T, log *gelftest.Log, n int, withSeq bool) {
	t.Helper()
	again := check(t, log, n, withSeq)
	if again != 0 || len(log.Others()) != 0 {
		t.Fatalf("%d of %d came again, %d that graylog loses", again, n, len(log.Others()))
	}
}

func TestExactlyOnceWithoutFaults(t *testing.T) {
	for _, n := range []int{0, 1, 10, 50_000} {
		source := newMemory(n)
		source.ends = true
		b := newBench(t, source)
		b.state(t.TempDir())
		b.start()
		b.mustEnd()
		wantOnce(t, b.got, n, true)
		if source.committed != n || source.rewinds != 0 {
			t.Errorf("committed %d of %d, %d rewinds", source.committed, n, source.rewinds)
		}
	}
}

// Cuts happen on the way, by size, and each takes over at a frame boundary.
func TestCutsBySize(t *testing.T) {
	const n = 3000
	source := newMemory(n)
	source.ends = true
	source.message = func(i int) string { return strconv.Itoa(i) + "\n" + strings.Repeat("x", 5000) }
	b := newBench(t, source)
	b.start()
	b.mustEnd()
	wantOnce(t, b.got, n, false)
	if _, conns := b.in.Conns(); conns < 3 {
		t.Errorf("%d connections for %d bytes", conns, n*5000)
	}
}

// faults are what a receiver can do to a line; each ends by itself or is ended
// by heal. A receiver that closes in order but drops what it has read is not
// among them: after the half-close that cannot be told from an answer (Graylog
// rule R18).
func faults(in *gelftest.Input, random *rand.Rand) []func() {
	return []func(){
		in.Reset, in.Stall,
		func() { in.KillAfter(random.IntN(100)) },
		func() { in.NeverEOF(true) },
		func() { in.RefuseNew(); in.Reset() },
		in.RefuseNew,
		func() { in.Stall(); in.Reset() },
	}
}

func heal(t *testing.T, in *gelftest.Input) {
	t.Helper()
	in.Resume()
	in.NeverEOF(false)
	if err := in.AcceptNew(); err != nil {
		t.Fatal(err)
	}
}

// received tracks how far the receiver has everything.
type received struct {
	mu   sync.Mutex
	seen []bool
	to   int // everything before was received
}

func (r *received) add(m gelftest.Message) {
	v := m.Verdict()
	i, err := strconv.Atoi(v.Message)
	if err != nil {
		return // cut off in the middle: no message
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.seen) <= i {
		r.seen = append(r.seen, false)
	}
	for r.seen[i] = true; r.to < len(r.seen) && r.seen[r.to]; r.to++ {
	}
}

func (r *received) all() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.to
}

// saved returns the position in the state file, -1 if there is none.
func saved(t *testing.T, dir string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, stateName))
	if errors.Is(err, os.ErrNotExist) {
		return -1
	}
	if err != nil {
		t.Fatal(err)
	}
	var s struct{ Sources map[string]struct{ Next int } }
	if err := json.Unmarshal(b, &s); err != nil {
		t.Errorf("%v: %q", err, b)
	}
	return s.Sources["memory"].Next
}

// TestAtLeastOnceWithFaults lets the receiver fail at random times in every way
// that it can, and the line crash in between. Nothing is lost, order holds but
// for what is sent again, and at no time does the state file hold a position
// behind something that the receiver has not read.
func TestAtLeastOnceWithFaults(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	var got received
	source := newMemory(0)
	padding := strings.Repeat("x", 300)
	source.message = func(i int) string { return strconv.Itoa(i) + "\n" + padding }
	b := newBench(t, source)
	log := b.got
	b.in = gelftest.Start(t, gelftest.Options{TCP: "127.0.0.1:0", Sink: func(m gelftest.Message) { log.Add(m); got.add(m) }})
	b.change = func(l *Line) { l.cutBytes, l.cutAge = 20<<10, 20*time.Millisecond }
	// Shorter, the receiver, which reads on connections that are given up too, may
	// never catch up with what is sent again.
	b.closeTimeout = 3 * time.Second
	b.options.SaveEvery = time.Millisecond
	b.options.StopTimeout = 10 * time.Millisecond

	dir := t.TempDir()
	state := b.open(dir)
	b.start()
	n := 0
	for round := range 42 {
		source.grow(100)
		n += 100
		pause(t, random.IntN(10))
		all := faults(b.in, random)
		all[round%len(all)]()
		pause(t, random.IntN(30))
		if at := saved(t, dir); at > got.all() {
			t.Fatalf("round %d: position %d is saved, the receiver has read up to %d", round, at, got.all())
		}
		if round%7 == 6 {
			// A crash: what the old line still does, it does to a dead receiver,
			// and the new one starts from what was on disk before.
			at := filepath.Join(t.TempDir(), "crash")
			if err := copyState(dir, at); err != nil {
				t.Fatal(err)
			}
			b.in.RefuseNew()
			b.in.Reset()
			b.stop()
			b.mustEnd()
			state.Close()
			crashed := source
			source = newMemory(n)
			source.message = crashed.message
			b.options.Sources = []Source{source}
			dir = at
			state = b.open(dir)
			heal(t, b.in)
			b.start()
		}
		heal(t, b.in)
	}
	// Not source.committed: if all was saved before the last crash, there is nothing left to commit.
	until(t, "everything is confirmed", func() bool { return saved(t, dir) == n })
	b.stop()
	b.mustEnd()
	state.Close()
	again := check(t, log, n, true)
	t.Logf("%d of %d messages came again, over %d connections", again, n, log.Messages()[len(log.Messages())-1].Conn)
}

func itoa(i int) string { return strconv.Itoa(i) }

// wantAll checks that 0 to n-1 came, from a source without IDs of this test.
func wantAll(t *testing.T, b *bench, n int) {
	t.Helper()
	seen := map[string]string{}
	for _, r := range b.got.Messages() {
		if id, ok := seen[r.Values[0]]; ok && id != r.Values[1] {
			t.Fatalf("message %s has the IDs %s and %s", r.Values[0], id, r.Values[1])
		}
		seen[r.Values[0]] = r.Values[1]
	}
	for i := range n {
		if seen[itoa(i)] == "" {
			t.Fatalf("message %d of %d is lost", i, n)
		}
	}
	if len(seen) != n {
		t.Fatalf("%d messages, want %d", len(seen), n)
	}
}

// pause waits for ms milliseconds, to let a fault happen at any moment.
func pause(t *testing.T, ms int) {
	t.Helper()
	timer := time.NewTimer(time.Duration(ms) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-within(t).Done():
	}
}

// copyState makes at a state directory with the state file of dir.
func copyState(dir, at string) error {
	b, err := os.ReadFile(filepath.Join(dir, stateName))
	if err != nil {
		return err
	}
	return errors.Join(os.Mkdir(at, 0o700), os.WriteFile(filepath.Join(at, stateName), b, 0o600))
}
