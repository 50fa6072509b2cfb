package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// How healthd is asked, and for how long it is watched.
const (
	healthClients  = 16
	healthLoad     = 3 * time.Second
	healthAlone    = 2000 // requests of one client with pauses
	healthPause    = time.Millisecond
	healthWarmup   = 25 * time.Second // the second runs of all checks are over by then
	healthWatch    = 20 * time.Second // each round
	healthTargets  = 500
	clockTicks     = 100 // USER_HZ of /proc/PID/stat, the same on all of Linux
	healthDeadline = 30 * time.Second
)

// web is a server that is asked.
type web struct {
	name, path string
	begin      func(dir, address string) (*exec.Cmd, error)
	// of each round: requests per second, processor time of the server for each, and
	// latencies, in seconds
	rate, cpu, half, most, fresh []float64
}

// benchHealth measures how fast /health is answered, beside what nginx does at its
// best, and what watching costs.
func benchHealth(dir string, rounds int) error {
	probes, targets, err := serveTargets()
	if err != nil {
		return err
	}
	defer targets.Close()
	webs := []*web{
		{name: "healthd: /health", path: "/health", begin: func(dir, address string) (*exec.Cmd, error) {
			return beginHealthd(dir, address, targets.Addr().String(), 1, "1h")
		}},
		{name: "nginx: a file of the same bytes", path: "/file", begin: beginNginx},
		{name: "nginx: stub_status", path: "/stub", begin: beginNginx},
	}
	for round := range rounds {
		for _, w := range webs {
			fmt.Fprintf(os.Stderr, "bench: round %d of %d: %s\n", round+1, rounds, w.name)
			if err := w.measure(dir, probes); err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
		}
	}
	fmt.Printf("| %d clients, connections kept | requests/s, median (best) | CPU of the server for each | one client: p50 | p99 | new connections: p99 |\n|---|--:|--:|--:|--:|--:|\n", healthClients)
	for _, w := range webs {
		fmt.Printf("| %s | %.0f (%.0f) | %.1f µs | %.0f µs | %.0f µs | %.0f µs |\n", w.name, median(w.rate), slices.Max(w.rate), median(w.cpu)*1e6,
			median(w.half)*1e6, median(w.most)*1e6, median(w.fresh)*1e6)
	}
	fmt.Printf("\n| healthd | processor, %% of a core | memory (RSS) |\n|---|--:|--:|\n")
	for _, n := range []int{0, healthTargets} {
		fmt.Fprintf(os.Stderr, "bench: %d targets\n", n)
		core, rss, err := watchTargets(dir, targets.Addr().String(), n, rounds)
		if err != nil {
			return err
		}
		fmt.Printf("| %d targets every 10 s | %.2f | %.1f MB |\n", n, core, float64(rss)/(1<<20))
	}
	fmt.Println()
	return nil
}

// serveTargets serves one answer to everybody, and counts.
func serveTargets() (*atomic.Int64, net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	const body = `{"status":"ok","info":{"db":{"status":"up"},"redis":{"status":"up"}},"error":{},"details":{"db":{"status":"up"},"redis":{"status":"up"}}}`
	answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
	probes := new(atomic.Int64)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			probes.Add(1)
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, answer)
			_ = c.Close()
		}
	}()
	return probes, l, nil
}

// beginHealthd starts a healthd with n targets of that address.
func beginHealthd(dir, address, target string, n int, every string) (*exec.Cmd, error) {
	var c strings.Builder
	fmt.Fprintf(&c, "[state]\ndir = '%[1]s/state'\n[public]\nlisten = ['%[2]s']\n[private]\nlisten = []\nsocket = '%[1]s/private'\n[discover]\nenabled = false\n", dir, address)
	for i := range n {
		fmt.Fprintf(&c, "[target.t%d]\nchecks = ['http://%s/health?%d#every=%s']\n", i, target, i, every)
		if i == 0 {
			c.WriteString("public = 'Payments'\n")
		}
	}
	path := filepath.Join(dir, "healthd.toml")
	if err := os.WriteFile(path, []byte(c.String()), 0o600); err != nil {
		return nil, err
	}
	return begin(exec.Command("bin/healthd", "run", "--config", path, "--set", "log.level=error"))
}

// beginNginx starts an nginx at its best, on both processors.
func beginNginx(dir, address string) (*exec.Cmd, error) {
	answer := `{"status":"pass","summary":"ALL-OK","up":true,"parts":[{"n":"Payments","s":"up"}]}` + "\n"
	conf := fmt.Sprintf(`daemon off; worker_processes 2; pid %[1]s/pid; error_log /dev/null;
events { worker_connections 1024; }
http {
  access_log off; keepalive_requests 1000000000; sendfile on; open_file_cache max=10;
  client_body_temp_path %[1]s/t1; proxy_temp_path %[1]s/t2; fastcgi_temp_path %[1]s/t3; uwsgi_temp_path %[1]s/t4; scgi_temp_path %[1]s/t5;
  server { listen %[2]s; root %[1]s; location = /stub { stub_status; } }
}`, dir, address)
	path := filepath.Join(dir, "nginx.conf")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "file"), []byte(answer), 0o644), os.WriteFile(path, []byte(conf), 0o644)); err != nil {
		return nil, err
	}
	return begin(exec.Command("nginx", "-e", "/dev/null", "-p", dir, "-c", path))
}

func begin(cmd *exec.Cmd) (*exec.Cmd, error) {
	cmd.Stderr = os.Stderr
	return cmd, cmd.Start()
}

// serving starts a server on an address of its own, waits until it answers, and ends it
// when use has returned.
func serving(parent, path string, start func(dir, address string) (*exec.Cmd, error), use func(address string, pid int) error) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := l.Addr().String()
	_ = l.Close()
	dir, err := os.MkdirTemp(parent, "web-")
	if err != nil {
		return err
	}
	if err := os.Chmod(parent, 0o755); err != nil { // nginx's workers are another user's
		return err
	}
	cmd, err := start(dir, address)
	if err != nil {
		return err
	}
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if err = askOnce(address, path); err == nil || time.Since(begin) > healthDeadline {
			break
		}
	}
	if err == nil {
		err = use(address, cmd.Process.Pid)
	}
	return errors.Join(err, cmd.Process.Signal(syscall.SIGTERM), cmd.Wait())
}

// asker asks over one connection.
type asker struct {
	net.Conn
	request []byte
	buf     []byte
}

func newAsker(address, path string) (*asker, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	request := "GET " + path + " HTTP/1.1\r\nHost: h\r\nUser-Agent: Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)\r\n\r\n"
	return &asker{c, []byte(request), make([]byte, 4096)}, nil
}

// ask returns when an answer of 200 has come whole.
func (a *asker) ask() error {
	if _, err := a.Write(a.request); err != nil {
		return err
	}
	for n, want := 0, 0; want == 0 || n < want; {
		m, err := a.Read(a.buf[n:])
		if err != nil {
			return err
		}
		n += m
		if head, _, whole := bytes.Cut(a.buf[:n], []byte("\r\n\r\n")); whole && want == 0 {
			length := 0 // chunks, whose end is found by its last bytes
			if _, text, ok := bytes.Cut(head, []byte("Content-Length: ")); ok {
				text, _, _ = bytes.Cut(text, []byte("\r\n"))
				length, _ = strconv.Atoi(string(text))
			}
			want = len(head) + 4 + length
			if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) || length == 0 {
				return fmt.Errorf("answer %q", a.buf[:n])
			}
		}
	}
	return nil
}

func askOnce(address, path string) error {
	a, err := newAsker(address, path)
	if err != nil {
		return err
	}
	defer a.Close()
	return a.ask()
}

// measure runs one round.
func (w *web) measure(parent string, probes *atomic.Int64) error {
	return serving(parent, w.path, w.begin, func(address string, pid int) error {
		before := probes.Load()
		cpu, _, err := processCost(pid)
		if err != nil {
			return err
		}
		requests, err := w.load(address)
		if err != nil {
			return err
		}
		after, _, err := processCost(pid)
		if err != nil {
			return err
		}
		w.cpu = append(w.cpu, (after-cpu).Seconds()/float64(requests))
		w.rate = append(w.rate, float64(requests)/healthLoad.Seconds())
		one, err := newAsker(address, w.path)
		if err != nil {
			return err
		}
		defer one.Close()
		kept, err := latencies(one.ask)
		if err != nil {
			return err
		}
		fresh, err := latencies(func() error { return askOnce(address, w.path) })
		if err != nil {
			return err
		}
		w.half, w.most, w.fresh = append(w.half, kept[len(kept)/2]), append(w.most, kept[len(kept)*99/100]), append(w.fresh, fresh[len(fresh)*99/100])
		if n := probes.Load() - before; n != 0 {
			return fmt.Errorf("%d requests made %d probes of targets, want none", requests, n)
		}
		return nil
	})
}

// load asks as fast as it goes, and returns how many answers came.
func (w *web) load(address string) (int64, error) {
	var requests atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, healthClients)
	end := time.Now().Add(healthLoad)
	for i := range healthClients {
		wg.Go(func() {
			a, err := newAsker(address, w.path)
			if err != nil {
				errs[i] = err
				return
			}
			defer a.Close()
			n := int64(0)
			for ; time.Now().Before(end) && errs[i] == nil; n++ {
				errs[i] = a.ask()
			}
			requests.Add(n)
		})
	}
	wg.Wait()
	return requests.Load(), errors.Join(errs...)
}

// latencies returns how long asking takes with pauses, in seconds, sorted.
func latencies(ask func() error) ([]float64, error) {
	var all []float64
	for range healthAlone {
		time.Sleep(healthPause)
		begin := time.Now()
		if err := ask(); err != nil {
			return nil, err
		}
		all = append(all, time.Since(begin).Seconds())
	}
	slices.Sort(all)
	return all, nil
}

// watchTargets lets a healthd watch n targets, and returns the median of what it took
// of a core, in percent, and its resident set in bytes.
func watchTargets(parent, target string, n, rounds int) (core float64, rss int64, err error) {
	start := func(dir, address string) (*exec.Cmd, error) { return beginHealthd(dir, address, target, n, "10s") }
	err = serving(parent, "/health", start, func(_ string, pid int) error {
		time.Sleep(healthWarmup)
		var cores []float64
		for range rounds {
			before, _, err := processCost(pid)
			if err != nil {
				return err
			}
			begin := time.Now()
			time.Sleep(healthWatch)
			after, resident, err := processCost(pid)
			if err != nil {
				return err
			}
			cores, rss = append(cores, 100*(after-before).Seconds()/time.Since(begin).Seconds()), resident
		}
		core = median(cores)
		return nil
	})
	return core, rss, err
}

// processCost returns the processor time of a process and its children, and the
// resident set of the process.
func processCost(pid int) (cpu time.Duration, rss int64, err error) {
	cpu, rss, err = ownCost(pid)
	children, err1 := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", pid))
	err = errors.Join(err, err1)
	for child := range strings.FieldsSeq(string(children)) {
		id, err1 := strconv.Atoi(child)
		more, _, err2 := processCost(id)
		cpu, err = cpu+more, errors.Join(err, err1, err2)
	}
	return cpu, rss, err
}

// ownCost is processCost without the children (proc(5)).
func ownCost(pid int) (cpu time.Duration, rss int64, err error) {
	stat, err1 := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	status, err2 := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err := errors.Join(err1, err2); err != nil {
		return 0, 0, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	_, text, _ := strings.Cut(string(status), "VmRSS:")
	_, err3 := fmt.Sscan(text, &rss)
	return time.Duration(user+system) * time.Second / clockTicks, rss << 10, errors.Join(err1, err2, err3)
}
