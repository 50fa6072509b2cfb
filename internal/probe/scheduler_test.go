package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"sidecar/internal/health"
)

// journal is a sink that remembers.
type journal struct {
	mu      sync.Mutex
	at      map[string][]time.Time
	results []string
	reprobe func(id string, r health.Result) bool
}

func (l *journal) sink(id string, at time.Time, r health.Result) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at == nil {
		l.at = map[string][]time.Time{}
	}
	l.at[id] = append(l.at[id], at)
	l.results = append(l.results, id+" "+r.State.String()+" "+r.Text)
	return l.reprobe != nil && l.reprobe(id, r)
}

func (l *journal) times(id string) []time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.at[id])
}

// running starts s and returns what stops it and returns its error.
func running(t testing.TB, s *Scheduler) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { stop() })
	return stop
}

func passes(context.Context) health.Result { return pass("well") }

func check(id string, every time.Duration, run Func) Check {
	return Check{ID: id, Kind: "test", Key: "k", Every: every, Timeout: every / 2, Run: run}
}

// TestChecksAreSpread: 500 checks that come at once start within three seconds, and a
// minute later they are spread over their whole interval.
func TestChecksAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l journal
		s := NewScheduler(0, l.sink)
		var checks []Check
		for i := range 500 {
			checks = append(checks, check(strconv.Itoa(i), 10*time.Second, passes))
		}
		s.Set(checks)
		began := time.Now()
		stop := running(t, s)
		time.Sleep(time.Second)
		if n := s.Stats().Runs; n < 80 || n > 260 {
			t.Errorf("%d checks have run in the first of three seconds", n)
		}
		time.Sleep(2*time.Second + gather)
		for i := range 500 {
			if n := len(l.times(strconv.Itoa(i))); n == 0 {
				t.Errorf("check %d has not run after 3 s", i)
			}
		}
		time.Sleep(117*time.Second - gather)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		var perSecond [10]int
		for i := range 500 {
			times := l.times(strconv.Itoa(i))
			for j := 2; j < len(times); j++ {
				if d := times[j].Sub(times[j-1]); d < 9500*time.Millisecond-gather || d > 10500*time.Millisecond+gather {
					t.Fatalf("check %d: %s between two runs", i, d)
				}
			}
			if d := times[1].Sub(times[0]); d < 500*time.Millisecond-gather || d > 10500*time.Millisecond+gather {
				t.Errorf("check %d: %s to its second run", i, d)
			}
			for _, at := range times {
				if from := at.Sub(began) - time.Minute; from >= 0 && from < 10*time.Second {
					perSecond[from/time.Second]++
				}
			}
		}
		for i, n := range perSecond {
			if n < 20 || n > 90 {
				t.Errorf("%d runs in second %d, want about 50: %v", n, i, perSecond)
			}
		}
		if st := s.Stats(); st.Checks != 500 || st.Running != 0 || st.Runs < 5500 || st.Overdue != 0 || st.Late > 10*time.Second {
			t.Errorf("%+v", st)
		}
	})
}

// TestSlowChecksHoldUpNobody: more than the concurrency never run at once, and what is
// due waits for a place.
func TestSlowChecksHoldUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now, most := 0, 0
		slow := func(ctx context.Context) health.Result {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			<-ctx.Done()
			mu.Lock()
			now--
			mu.Unlock()
			return failed("wait", ctx.Err())
		}
		var l journal
		s := NewScheduler(4, l.sink)
		var checks []Check
		for i := range 8 {
			checks = append(checks, Check{ID: strconv.Itoa(i), Every: 20 * time.Second, Timeout: 2 * time.Second, Run: slow})
		}
		s.Set(append(checks, check("quick", time.Second, passes)))
		stop := running(t, s)
		time.Sleep(time.Minute)
		if err := stop(); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if most != 4 {
			t.Errorf("%d at once, want 4", most)
		}
		for i := range 8 {
			if n := len(l.times(strconv.Itoa(i))); n < 2 {
				t.Errorf("slow check %d has run %d times", i, n)
			}
		}
		if n := len(l.times("quick")); n < 40 {
			t.Errorf("the quick one has run %d times", n)
		}
	})
}

// TestReprobe: after a result that the sink doubts the next run comes in a second.
func TestReprobe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := journal{}
		doubt := true
		l.reprobe = func(string, health.Result) bool { d := doubt; doubt = false; return d }
		s := NewScheduler(0, l.sink)
		s.Set([]Check{check("a", 10*time.Second, passes)})
		stop := running(t, s)
		time.Sleep(time.Minute)
		if err := stop(); err != nil {
			t.Error(err)
		}
		times := l.times("a")
		if d := times[1].Sub(times[0]); d < fast || d > fast+gather {
			t.Errorf("%s to the second run", d)
		}
		if d := times[3].Sub(times[2]); d < 9*time.Second {
			t.Errorf("%s to the fourth run", d)
		}
	})
}

// TestStuckCheck: a check that ignores its context is told as a failure, gives up its
// place, and goes on when it returns.
func TestStuckCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var l journal
		s := NewScheduler(1, l.sink)
		stuck := Check{ID: "stuck", Every: 10 * time.Second, Timeout: time.Second, Run: func(context.Context) health.Result {
			<-release
			return pass("at last")
		}}
		s.Set([]Check{stuck, check("other", 10*time.Second, passes)})
		stop := running(t, s)
		time.Sleep(30 * time.Second)
		if n := len(l.times("other")); n < 2 {
			t.Errorf("the other check has run %d times", n)
		}
		if st := s.Stats(); st.Stuck != 1 || st.Overdue != 1 || st.Running > 1 {
			t.Errorf("%+v", st)
		}
		if !slices.ContainsFunc(l.results, func(r string) bool {
			return strings.HasPrefix(r, "stuck fail the check does not return, 3s after")
		}) {
			t.Errorf("results %q", l.results)
		}
		if i := slices.IndexFunc(s.Statuses(), func(st Status) bool { return st.ID == "stuck" && st.Stuck && st.Running && st.Last.IsZero() }); i < 0 {
			t.Errorf("%+v", s.Statuses())
		}
		close(release)
		time.Sleep(15 * time.Second)
		if st := s.Stats(); st.Stuck != 0 || !slices.Contains(l.results, "stuck pass at last") {
			t.Errorf("%+v, %q", st, l.results)
		}
		if n := len(l.times("stuck")); n < 2 {
			t.Errorf("it has run %d times", n)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestRunEndsWithoutStuckChecks: the end does not wait for ever, and says so.
func TestRunEndsWithoutStuckChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := NewScheduler(0, new(journal).sink)
		s.Set([]Check{check("a", time.Minute, func(context.Context) health.Result { <-release; return pass("") }), check("b", time.Minute, func(ctx context.Context) health.Result {
			<-ctx.Done()
			return pass("")
		})})
		stop := running(t, s)
		time.Sleep(5 * time.Second)
		began := time.Now()
		if err := stop(); err == nil || !strings.Contains(err.Error(), "1 do not return") {
			t.Errorf("error %v", err)
		}
		if took := time.Since(began); took != patience {
			t.Errorf("took %s", took)
		}
		close(release)
		<-s.done
	})
}

// TestSetKeepsWhatStays: a check that stays keeps its schedule and its old function,
// one that changed starts anew, one that went is silent, even if it was running.
func TestSetKeepsWhatStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l journal
		s := NewScheduler(0, l.sink)
		hold := make(chan struct{})
		says := func(text string) Func { return func(context.Context) health.Result { return pass("%s", text) } }
		goes := check("goes", 10*time.Second, func(context.Context) health.Result { <-hold; return pass("gone") })
		s.Set([]Check{check("stays", 10*time.Second, says("old")), check("changes", 10*time.Second, says("old")), goes})
		stop := running(t, s)
		time.Sleep(4 * time.Second)
		changed := check("changes", 10*time.Second, says("new"))
		changed.Key = "other"
		s.Set([]Check{check("stays", 10*time.Second, says("new")), changed})
		close(hold)
		time.Sleep(4 * time.Second)
		if err := stop(); err != nil {
			t.Error(err)
		}
		if !slices.Contains(l.results, "changes pass new") {
			t.Errorf("the changed check did not start anew: %q", l.results)
		}
		if slices.Contains(l.results, "goes pass gone") || slices.Contains(l.results, "stays pass new") {
			t.Errorf("%q", l.results)
		}
		if n := len(s.Statuses()); n != 2 {
			t.Errorf("%d checks", n)
		}
	})
}

func TestProbeNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l journal
		s := NewScheduler(0, l.sink)
		s.Set([]Check{check("a", time.Hour, passes)})
		stop := running(t, s)
		time.Sleep(4*time.Second + 100*time.Millisecond) // not when the loop goes round anyway
		before := len(l.times("a"))
		if !s.Probe("a") || s.Probe("b") {
			t.Error("Probe does not tell what there is")
		}
		synctest.Wait()
		if n := len(l.times("a")); n != before+1 {
			t.Errorf("%d runs after %d", n, before)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestAgeShowsAStuckSink: the loop goes round each second with nothing to do, and
// not while the sink holds it.
func TestAgeShowsAStuckSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := NewScheduler(0, func(string, time.Time, health.Result) bool { <-release; return false })
		time.Sleep(5 * time.Second)
		if age := s.Age(); age != 5*time.Second {
			t.Errorf("age %s before Run", age)
		}
		stop := running(t, s)
		time.Sleep(time.Hour + 500*time.Millisecond)
		if age := s.Age(); age > beatEvery {
			t.Errorf("age %s with nothing to do", age)
		}
		s.Set([]Check{check("a", time.Second, passes)})
		time.Sleep(20 * time.Second)
		if age := s.Age(); age < 15*time.Second {
			t.Errorf("age %s while the sink is stuck", age)
		}
		close(release)
		time.Sleep(2 * time.Second)
		if age := s.Age(); age > beatEvery {
			t.Errorf("age %s afterwards", age)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// cpu returns the processor time of this process.
func cpu(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// resident returns the resident memory of this process.
func resident(b *testing.B) float64 {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.ParseFloat(strings.Fields(string(data))[1], 64)
	if err != nil {
		b.Fatal(err)
	}
	return pages * float64(os.Getpagesize()) / (1 << 20)
}

// BenchmarkTargets is 500 HTTP targets with a Terminus body at their real interval of
// ten seconds, for b.N of them and the first: what an idle machine costs is mostly
// waking up, which a shorter interval would hide. The server is a process of its own.
func BenchmarkTargets(b *testing.B) {
	address, stop := targetServer(b)
	defer stop()
	done := make(chan struct{}, 1)
	var mu sync.Mutex
	runs := 0
	s := NewScheduler(0, func(_ string, _ time.Time, r health.Result) bool {
		mu.Lock()
		defer mu.Unlock()
		if r.State != health.Pass {
			b.Error(r.Text)
		}
		if runs++; runs == 500*(b.N+1) {
			done <- struct{}{}
		}
		return false
	})
	var checks []Check
	for i := range 500 {
		c := mustParse(b, fmt.Sprintf("http://%s/health?%d#every=10s", address, i), Env{})
		c.ID = strconv.Itoa(i)
		checks = append(checks, c)
	}
	s.Set(checks)
	runtime.GC()
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu(b)
	end := running(b, s)
	<-done
	used := cpu(b) - before
	b.StopTimer()
	if err := end(); err != nil {
		b.Error(err)
	}
	perInterval := used / time.Duration(b.N+1)
	b.ReportMetric(float64(perInterval.Microseconds())/500, "µs/check")
	b.ReportMetric(100*perInterval.Seconds()/10, "%core")
	b.ReportMetric(resident(b), "MiB")
}

// targetServer starts a server in a process of its own, whose costs do not count.
func targetServer(b *testing.B) (address string, stop func()) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), targetEnv+"=1")
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		b.Fatal(err)
	}
	if _, err := fmt.Fscanln(out, &address); err != nil {
		b.Fatal(err)
	}
	return address, func() { in.Close(); cmd.Wait() }
}

// targetEnv makes the test's program a server of targets.
const targetEnv = "PROBE_TEST_SERVER"

// TestMain is also the program that BenchmarkTargets asks.
func TestMain(m *testing.M) {
	if os.Getenv(targetEnv) == "" {
		os.Exit(m.Run())
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	go func() { io.Copy(io.Discard, os.Stdin); os.Exit(0) }()
	body := `{"status":"ok","info":{"db":{"status":"up"},"redis":{"status":"up"}},"error":{},"details":{"db":{"status":"up"},"redis":{"status":"up"}}}`
	for {
		c, err := l.Accept()
		if err != nil {
			panic(err)
		}
		c.Read(make([]byte, 4096))
		io.WriteString(c, httpAnswer("200 OK", "application/json", body))
		c.Close()
	}
}
