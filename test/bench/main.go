// Command bench measures logship beside what else there is, and prints the
// tables of docs/performance.md. Rounds are interleaved; figures are CPU seconds
// (user + system) of the measured process, medians over the rounds.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"sidecar/internal/parse/parsetest"
)

func main() {
	entries := flag.Int("n", 1_000_000, "`number` of journal entries and of syslog messages")
	parts := flag.String("parts", "journal,outputs,syslog,spool,code,health,scrape", "what is measured, `names` with commas in between")
	rounds := flag.Int("rounds", 3, "interleaved rounds")
	lines := flag.String("lines", "", "`file` with messages, plain or gzip (default the bench corpus)")
	reader := flag.String("read", "", "only read the journal of the directory that is the argument, with this `reader`")
	store := flag.String("store", "", "only take -n syslog messages in at this `address`, by way of a spool in the directory that is the argument")
	copier := flag.Bool("copy", false, "only copy lines from the address that is the first argument to the second")
	role := flag.String("scrape", "", "only be a part of the bench of scrapes: pages or expfmt")
	flag.Parse()
	if *role != "" {
		if err := playScrapeRole(*role, flag.Args()); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if *copier {
		fmt.Fprintln(os.Stderr, "bench:", copyLines(flag.Arg(0), flag.Arg(1)))
		os.Exit(1)
	}
	if *store != "" {
		if err := takeSyslog(*store, flag.Arg(0), *entries); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if *reader != "" {
		if err := read(*reader, flag.Arg(0)); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if err := run(*parts, *entries, *rounds, *lines); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(parts string, entries, rounds int, linesPath string) error {
	lines, err := readLines(linesPath)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("/var/tmp", "logship-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Printf("%s, %d CPUs, %s\n\n", cpuModel(), runtime.NumCPU(), runtime.Version())
	for part := range strings.SplitSeq(parts, ",") {
		switch part {
		case "journal":
			err = benchJournal(dir, lines, entries, rounds)
		case "outputs":
			err = benchOutputs(dir, lines, entries, rounds)
		case "syslog":
			err = benchSyslog(dir, lines, entries, rounds)
		case "peers":
			err = benchPeers(dir, entries, rounds, lines)
		case "spool":
			err = benchSpool(dir)
		case "code":
			err = benchCode(dir)
		case "health":
			err = benchHealth(dir, rounds)
		case "scrape":
			err = benchScrape(dir, rounds)
		default:
			err = fmt.Errorf("there is no part %q", part)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func benchJournal(dir string, lines [][]byte, entries, rounds int) error {
	fmt.Fprintf(os.Stderr, "bench: writing a journal of %d entries\n", entries)
	size, err := writeJournal(filepath.Join(dir, "journal"), entries, lines)
	if err != nil {
		return err
	}
	fmt.Printf("%d entries of 22 fields, journal of %d MB\n\n", entries, size>>20)
	for _, contenders := range [][]contender{shippers(dir, entries), journalReaders(dir, entries)} {
		if err := compare(contenders, entries, rounds); err != nil {
			return err
		}
	}
	return nil
}

// readLines returns the messages to ship.
func readLines(path string) ([][]byte, error) {
	if path == "" {
		return parsetest.BenchLines(), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			return nil, err
		}
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return bytes.Split(bytes.TrimSpace(b), []byte("\n")), nil
}

// writeJournal makes one journal file (compact, zstd: the default of Debian 12)
// and returns its size in bytes.
func writeJournal(dir string, entries int, lines [][]byte) (int64, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return 0, err
	}
	path := filepath.Join(dir, "system.journal")
	cmd := exec.Command("/lib/systemd/systemd-journal-remote", "--compress=yes", "-o", path, "-")
	cmd.Env = append(os.Environ(), "SYSTEMD_JOURNAL_COMPACT=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("%w (Debian package systemd-journal-remote)", err)
	}
	w := bufio.NewWriterSize(in, 1<<20)
	writeExport(w, entries, lines)
	if err := w.Flush(); err != nil {
		return 0, err
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		return 0, err
	}
	size := int64(0) // it begins a new file when one is full
	files, err := os.ReadDir(dir)
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			return 0, err
		}
		size += info.Size()
	}
	return size, err
}

// writeExport writes entries as a unit's standard output gives them: 22 fields,
// of which the message and the times differ from entry to entry.
func writeExport(w *bufio.Writer, entries int, lines [][]byte) {
	rnd := rand.New(rand.NewPCG(1, 2))
	const boot = "0123456789abcdef0123456789abcdef"
	for i := range entries {
		unit := rnd.IntN(20)
		fmt.Fprintf(w, "__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=%s\n", 1795000000000000+i*50, 5000000+i*50, boot)
		fmt.Fprintf(w, "_TRANSPORT=stdout\nPRIORITY=6\nSYSLOG_FACILITY=3\nSYSLOG_IDENTIFIER=app%d\n_UID=998\n_GID=998\n_COMM=node\n", unit)
		fmt.Fprintf(w, "_EXE=/usr/bin/node\n_CMDLINE=/usr/bin/node /srv/app%d/server.js\n_CAP_EFFECTIVE=0\n_SELINUX_CONTEXT=unconfined\n", unit)
		fmt.Fprintf(w, "_SYSTEMD_CGROUP=/system.slice/app%d.service\n_SYSTEMD_UNIT=app%d.service\n_SYSTEMD_SLICE=system.slice\n", unit, unit)
		fmt.Fprintf(w, "_SYSTEMD_INVOCATION_ID=%032x\n_MACHINE_ID=%032x\n_HOSTNAME=web-01\n_PID=%d\n_STREAM_ID=%032x\n", unit, 77, 1000+unit, unit+500)
		fmt.Fprintf(w, "_RUNTIME_SCOPE=system\n_SOURCE_REALTIME_TIMESTAMP=%d\n", 1795000000000000+i*50)
		line := lines[i%len(lines)]
		fmt.Fprintf(w, "MESSAGE\n")
		var n [8]byte
		binary.LittleEndian.PutUint64(n[:], uint64(len(line)))
		w.Write(n[:])
		w.Write(line)
		w.WriteString("\n\n")
	}
}

// sample is what one round of one program cost.
type sample struct {
	cpu, wall time.Duration
	rss       int64 // peak, bytes
}

// contender is one program of a table. run runs it once.
type contender struct {
	name string
	run  func() (sample, error)
}

// shippers send the journal away, or at least print it.
func shippers(dir string, entries int) []contender {
	return []contender{
		{"logship: journal -> GELF TCP, confirmed", func() (sample, error) { return runLogship(dir, entries) }},
		journalctl(dir, "export"),
		journalctl(dir, "json"),
	}
}

func journalctl(dir, format string) contender {
	return contender{"journalctl -o " + format + " > /dev/null", func() (sample, error) {
		return runCommand(exec.Command("journalctl", "-D", filepath.Join(dir, "journal"), "-o", format, "--all", "--no-pager"))
	}}
}

// compare runs the contenders in turns and prints a table with ratios to the
// first one.
func compare(contenders []contender, entries, rounds int) error {
	samples := make([][]sample, len(contenders))
	for round := range rounds {
		for i, c := range contenders {
			fmt.Fprintf(os.Stderr, "bench: round %d of %d: %s\n", round+1, rounds, c.name)
			s, err := c.run()
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			samples[i] = append(samples[i], s)
		}
	}
	fmt.Printf("| job | CPU-s per million, median (best) | ratio | entries/s | peak RSS |\n|---|---|---|---|---|\n")
	base := medianOf(samples[0], func(s sample) float64 { return s.cpu.Seconds() })
	for i, c := range contenders {
		cpu := medianOf(samples[i], func(s sample) float64 { return s.cpu.Seconds() })
		best := slices.MinFunc(samples[i], func(a, b sample) int { return cmp.Compare(a.cpu, b.cpu) }).cpu.Seconds()
		wall := medianOf(samples[i], func(s sample) float64 { return s.wall.Seconds() })
		rss := medianOf(samples[i], func(s sample) float64 { return float64(s.rss) })
		fmt.Printf("| %s | %.2f (%.2f) | %.1f | %.0fk | %.0f MB |\n", c.name, cpu*1e6/float64(entries), best*1e6/float64(entries), cpu/base, float64(entries)/wall/1e3, rss/(1<<20))
	}
	fmt.Println()
	return nil
}

// medianOf returns the median of a figure of samples.
func medianOf(samples []sample, figure func(sample) float64) float64 {
	var values []float64
	for _, s := range samples {
		values = append(values, figure(s))
	}
	return median(values)
}

func median(values []float64) float64 { return slices.Sorted(slices.Values(values))[len(values)/2] }

// runLogship ships the journal.
func runLogship(dir string, entries int) (sample, error) {
	state, err := os.MkdirTemp(dir, "state-")
	if err != nil {
		return sample{}, err
	}
	return runShipper(entries, func(output string) (*exec.Cmd, error) {
		return exec.Command("bin/logship", "run", "--set", "input.journald.directory="+filepath.Join(dir, "journal"),
			"--set", "input.journald.start=head", "--set", "output.url=gelf+tcp://"+output,
			"--set", "parse.multiline=false", // one frame for each entry, to know when all have come
			"--set", "state.dir="+state, "--set", "metrics.listen=", "--set", "log.level=warn"), nil
	}, func() error { return nil })
}

// runShipper starts a shipper that sends to the address output, gives it what to ship
// by feed, and stops it when a receiver in this process has counted all frames.
func runShipper(frames int, command func(output string) (*exec.Cmd, error), feed func() error) (sample, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return sample{}, err
	}
	defer l.Close()
	enough := make(chan struct{})
	go count(l, int64(frames), enough)
	cmd, err := command(l.Addr().String())
	if err != nil {
		return sample{}, err
	}
	cmd.Stderr = os.Stderr
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return sample{}, err
	}
	rss := watchPeak(cmd.Process.Pid)
	if err := feed(); err != nil {
		return sample{}, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	<-enough
	wall := time.Since(start)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return sample{}, err
	}
	if err := cmd.Wait(); err != nil {
		return sample{}, err
	}
	return usage(cmd, wall, rss()), nil
}

// watchPeak follows the peak resident set of a process until it ends; the
// function returns it in bytes. (The ru_maxrss of wait4 is no use: it begins with
// that of the process that forked.)
func watchPeak(pid int) func() int64 {
	peak := make(chan int64, 1)
	go func() {
		last := int64(0)
		for range time.Tick(20 * time.Millisecond) {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			_, rest, found := strings.Cut(string(b), "VmHWM:")
			if err != nil || !found { // a process that has ended has no memory
				peak <- last
				return
			}
			fmt.Sscan(rest, &last)
		}
	}()
	return func() int64 { return <-peak << 10 }
}

// count accepts connections and counts NUL bytes, the ends of frames.
func count(l net.Listener, want int64, enough chan<- struct{}) {
	var frames atomic.Int64
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			buf := make([]byte, 256<<10)
			for {
				n, err := c.Read(buf)
				ends := int64(bytes.Count(buf[:n], []byte{0}))
				if total := frames.Add(ends); ends > 0 && total >= want && total-ends < want {
					close(enough)
				}
				if err != nil {
					return
				}
			}
		}()
	}
}

func runCommand(cmd *exec.Cmd) (sample, error) {
	start := time.Now()
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return sample{}, err
	}
	rss := watchPeak(cmd.Process.Pid)
	if err := cmd.Wait(); err != nil {
		return sample{}, err
	}
	return usage(cmd, time.Since(start), rss()), nil
}

func usage(cmd *exec.Cmd, wall time.Duration, rss int64) sample {
	s := cmd.ProcessState
	return sample{cpu: s.UserTime() + s.SystemTime(), wall: wall, rss: rss}
}

func cpuModel() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		for line := range strings.SplitSeq(string(b), "\n") {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				return strings.TrimLeft(name, "\t: ")
			}
		}
	}
	return runtime.GOARCH
}
