package main

import (
	"bufio"
	"bytes"
	"cmp"
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
	"time"
)

// How much is scraped, and how often for one figure.
const (
	scrapeFor    = 2 * time.Second
	scrapeWarmup = 5
	scrapeFewest = 5
	scrapeMost   = 200
)

// targets are what is scraped: so many targets with so many series each.
type targets struct{ count, series int }

// benchScrape measures what a scrape of many targets costs, beside what else merges and
// sums metrics, and how that grows.
func benchScrape(dir string, rounds int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	pages, err := startPages(self)
	if err != nil {
		return err
	}
	defer pages.stop()
	textparse := filepath.Join(dir, "textparse")
	build := exec.Command("go", "build", "-o", textparse, "./scan")
	build.Dir, build.Stderr = "test/textparse", os.Stderr
	if err := build.Run(); err != nil {
		return err
	}
	many, large := targets{20, 2000}, targets{10, 10_000}
	fmt.Printf("%d targets of %d series each, of prom-client:\n\n", many.count, many.series)
	err = compareScrapes(rounds, []contender{
		{"healthd", func() (sample, error) { return scrapeHealthd(dir, pages.address, many, "", "") }},
		{"healthd, gzip", func() (sample, error) {
			return scrapeHealthd(dir, pages.address, many, "", "Accept-Encoding: gzip\r\n")
		}},
		{"Prometheus' textparse: only reading the pages", func() (sample, error) {
			return scrapeByLine(exec.Command(textparse, pages.address, strconv.Itoa(many.count), strconv.Itoa(many.series)), processCost)
		}},
		{"expfmt: fetch, parse, label, merge, encode", func() (sample, error) {
			return scrapeByLine(exec.Command(self, "-scrape", "expfmt", pages.address, strconv.Itoa(many.count), strconv.Itoa(many.series)), processCost)
		}},
	})
	if err != nil {
		return err
	}
	fmt.Printf("%d workers of %d series each:\n\n", large.count, large.series)
	err = compareScrapes(rounds, []contender{
		{"healthd, all labelled", func() (sample, error) { return scrapeHealthd(dir, pages.address, large, "", "") }},
		{"healthd, all summed", func() (sample, error) {
			return scrapeHealthd(dir, pages.address, large, "sum = ['prom-client', '*']\n", "")
		}},
		{"prom-client's AggregatorRegistry: the primary", func() (sample, error) { return aggregate(large, ownCost) }},
		{"the same with the workers", func() (sample, error) { return aggregate(large, processCost) }},
	})
	if err != nil {
		return err
	}
	return scrapeCurves(dir, pages.address)
}

// compareScrapes runs the contenders in turns and prints a table with ratios to the first
// one.
func compareScrapes(rounds int, contenders []contender) error {
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
	fmt.Printf("| | CPU per scrape, median (best) | ratio | latency, median | peak RSS |\n|---|--:|--:|--:|--:|\n")
	cpu := func(s sample) float64 { return s.cpu.Seconds() }
	base := medianOf(samples[0], cpu)
	for i, c := range contenders {
		best := slices.MinFunc(samples[i], func(a, b sample) int { return cmp.Compare(a.cpu, b.cpu) })
		fmt.Printf("| %s | %.1f (%.1f) ms | %.1f | %.1f ms | %.0f MB |\n", c.name, 1e3*medianOf(samples[i], cpu), 1e3*best.cpu.Seconds(), medianOf(samples[i], cpu)/base,
			1e3*medianOf(samples[i], func(s sample) float64 { return s.wall.Seconds() }), medianOf(samples[i], func(s sample) float64 { return float64(s.rss) })/(1<<20))
	}
	fmt.Println()
	return nil
}

// scrapeHealthd measures a healthd of its own with targets at an address. more is added
// to the table of targets, header to the request.
func scrapeHealthd(parent, address string, t targets, more, header string) (s sample, err error) {
	start := func(dir, listen string) (*exec.Cmd, error) {
		var c strings.Builder
		fmt.Fprintf(&c, "[state]\ndir = '%[1]s/state'\n[public]\nlisten = ['unix:%[1]s/public']\n[private]\nlisten = ['%[2]s']\nsocket = '%[1]s/private'\n", dir, listen)
		c.WriteString("[discover]\nenabled = false\n[metrics]\nmax_total = '1GiB'\nmax_series = 1000000\n")
		fmt.Fprintf(&c, "[target.shop]\nchecks = ['http://%[1]s/0/%%i#every=1h']\nmetrics = 'http://%[1]s/%[2]d/%%i'\nworkers = '1..%[3]d'\n%[4]s", address, t.series, t.count, more)
		path := filepath.Join(dir, "healthd.toml")
		if err := os.WriteFile(path, []byte(c.String()), 0o600); err != nil {
			return nil, err
		}
		return begin(exec.Command("bin/healthd", "run", "--config", path, "--set", "log.level=error"))
	}
	err = serving(parent, "/healthz", start, func(address string, pid int) (err error) {
		var page []byte
		s, err = scrapes(pid, ownCost, func() (err error) {
			page, err = fetchAll(page[:0], address, "/metrics", header)
			return err
		})
		if err == nil && header == "" && more == "" && bytes.Count(page, []byte("\n")) < t.count*t.series {
			err = fmt.Errorf("%d lines in the page", bytes.Count(page, []byte("\n")))
		}
		return err
	})
	return s, err
}

// fetchAll appends the answer of 200, head and all, to dst.
func fetchAll(dst []byte, address, path, header string) ([]byte, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return dst, err
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-Prometheus-Scrape-Timeout-Seconds: 60\r\n"+header+"\r\n"); err != nil {
		return dst, err
	}
	for {
		dst = slices.Grow(dst, 64<<10)
		n, err := c.Read(dst[len(dst):cap(dst)])
		if dst = dst[:len(dst)+n]; errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return dst, err
		}
	}
	if !bytes.HasPrefix(dst, []byte("HTTP/1.1 200 ")) {
		return dst, fmt.Errorf("answer %.100q", dst)
	}
	return dst, nil
}

// costOf returns the processor time and the resident set of a process.
type costOf func(pid int) (cpu time.Duration, rss int64, err error)

// scrapes repeats once, and returns what that costs a process.
func scrapes(pid int, cost costOf, once func() error) (sample, error) {
	var last time.Duration
	for range scrapeWarmup {
		began := time.Now()
		if err := once(); err != nil {
			return sample{}, err
		}
		last = time.Since(began)
	}
	n := min(max(int(scrapeFor/last), scrapeFewest), scrapeMost)
	before, _, err := cost(pid)
	if err != nil {
		return sample{}, err
	}
	var walls []float64
	for range n {
		began := time.Now()
		if err := once(); err != nil {
			return sample{}, err
		}
		walls = append(walls, time.Since(began).Seconds())
	}
	after, _, err := cost(pid)
	if err != nil {
		return sample{}, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, text, _ := strings.Cut(string(status), "VmHWM:")
	peak := int64(0)
	_, err2 := fmt.Sscan(text, &peak)
	return sample{cpu: (after - before) / time.Duration(n), wall: time.Duration(median(walls) * float64(time.Second)), rss: peak << 10}, errors.Join(err, err2)
}

// scrapeByLine measures a program that says that it is ready, then scrapes once for each
// line of its input, and says when it has. cost is what counts of it.
func scrapeByLine(cmd *exec.Cmd, cost costOf) (s sample, err error) {
	cmd.Stderr = os.Stderr
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		return sample{}, err
	}
	answers := bufio.NewScanner(out)
	if answers.Scan() {
		s, err = scrapes(cmd.Process.Pid, cost, func() error {
			if _, err := io.WriteString(in, "\n"); err != nil || answers.Scan() {
				return err
			}
			return fmt.Errorf("no answer: %w", errors.Join(answers.Err(), io.ErrUnexpectedEOF))
		})
	}
	return s, errors.Join(err, in.Close(), cmd.Wait())
}

// aggregate measures the aggregator of prom-client, whose workers are the children of the
// process that scrapes.
func aggregate(t targets, cost costOf) (sample, error) {
	modules, err := filepath.Abs("test/winston/node_modules")
	if err != nil {
		return sample{}, err
	}
	cmd := exec.Command("node", "test/bench/promclient.js", "cluster", strconv.Itoa(t.count), strconv.Itoa(t.series))
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	return scrapeByLine(cmd, cost)
}

// pageServer is the process that the targets are in.
type pageServer struct {
	cmd     *exec.Cmd
	in      io.Closer
	address string
}

// startPages starts a process that serves pages.
func startPages(self string) (*pageServer, error) {
	p := &pageServer{cmd: exec.Command(self, "-scrape", "pages")}
	p.cmd.Stderr = os.Stderr
	in, err1 := p.cmd.StdinPipe()
	out, err2 := p.cmd.StdoutPipe()
	if err := errors.Join(err1, err2, p.cmd.Start()); err != nil {
		return nil, err
	}
	p.in = in
	line, err := bufio.NewReader(out).ReadString('\n')
	p.address = strings.TrimSpace(line)
	return p, err
}

func (p *pageServer) stop() {
	_ = p.in.Close()
	_ = p.cmd.Wait()
}
