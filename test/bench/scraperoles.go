package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// recorded is a page of promclient.js with recordedSeries series, packed.
//
//go:embed testdata/page.txt.gz
var recorded []byte

const recordedSeries = 2007

// playScrapeRole is this program as a part of the bench of scrapes: the process that
// serves pages, or one that merges them with expfmt.
func playScrapeRole(role string, args []string) error {
	switch {
	case role == "pages":
		return servePages(os.Stdin, os.Stdout)
	case role == "expfmt" && len(args) == 3:
		count, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return mergeByExpfmt(args[0], count, args[2], os.Stdin, os.Stdout)
	}
	return fmt.Errorf("there is no role %q with %d arguments", role, len(args))
}

// servePages answers /SERIES/… with a page of about so many series, until in ends. It
// does as little for it as it can.
func servePages(in io.Reader, out io.Writer) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	z, err := gzip.NewReader(bytes.NewReader(recorded))
	if err != nil {
		return err
	}
	page, err := io.ReadAll(z)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	answers := map[string][]byte{}
	answer := func(series string) []byte {
		mu.Lock()
		defer mu.Unlock()
		if answers[series] == nil {
			n, _ := strconv.Atoi(series) // that of a check is none
			body := scalePage(page, n)
			answers[series] = fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
		}
		return answers[series]
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				head := make([]byte, 4096)
				n, _ := c.Read(head)
				_, path, _ := strings.Cut(string(head[:n]), " /")
				series, _, _ := strings.Cut(path, "/")
				_, _ = c.Write(answer(series))
				_ = c.Close()
			}()
		}
	}()
	if _, err := fmt.Fprintln(out, l.Addr()); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	return errors.Join(err, l.Close())
}

// scalePage returns a page like the recorded one with about so many series: the first
// ones of each family, or all of them over and over with one label more.
func scalePage(page []byte, series int) []byte {
	var b, family []byte
	for block := range bytes.SplitSeq(page, []byte("\n\n")) {
		var samples [][]byte
		for line := range bytes.Lines(append(slices.Clip(bytes.TrimSpace(block)), '\n')) {
			if line[0] == '#' {
				b = append(b, line...)
			} else {
				samples = append(samples, line)
			}
		}
		for i := range (len(samples)*series + recordedSeries - 1) / recordedSeries {
			line := samples[i%len(samples)]
			if again := i / len(samples); again > 0 {
				family = family[:0]
				name, rest, labelled := bytes.Cut(line, []byte("{"))
				if !labelled {
					name, rest, _ = bytes.Cut(line, []byte(" "))
				}
				family = fmt.Appendf(append(family, name...), "{shard=\"%d\"", again)
				if labelled {
					family = append(append(family, ','), rest...)
				} else {
					family = append(append(family, "} "...), rest...)
				}
				line = family
			}
			b = append(b, line...)
		}
		b = append(b, '\n')
	}
	return b
}

// mergeByExpfmt does with the library of Prometheus what healthd does, once for each line
// of in.
func mergeByExpfmt(address string, count int, series string, in io.Reader, out io.Writer) error {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	fmt.Fprintln(out, "ready")
	for lines := bufio.NewScanner(in); lines.Scan(); {
		pages := make([]map[string]*dto.MetricFamily, count)
		errs := make([]error, count)
		var wg sync.WaitGroup
		for i := range count {
			wg.Go(func() { pages[i], errs[i] = fetchFamilies(&client, fmt.Sprintf("http://%s/%s/%d", address, series, i)) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		n, err := encodeMerged(pages)
		if err != nil {
			return err
		}
		fmt.Fprintln(out, n)
	}
	return nil
}

func fetchFamilies(client *http.Client, url string) (map[string]*dto.MetricFamily, error) {
	r, err := client.Get(url)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	return parser.TextToMetricFamilies(r.Body)
}

// encodeMerged labels, merges and encodes pages, and returns how long the result is.
func encodeMerged(pages []map[string]*dto.MetricFamily) (int, error) {
	app, worker, shop := "app", "worker", "shop"
	all := map[string]*dto.MetricFamily{}
	for i, families := range pages {
		name := strconv.Itoa(i)
		for _, f := range families {
			for _, m := range f.Metric {
				m.Label = append(m.Label, &dto.LabelPair{Name: &app, Value: &shop}, &dto.LabelPair{Name: &worker, Value: &name})
			}
			if first := all[f.GetName()]; first != nil {
				first.Metric = append(first.Metric, f.Metric...)
			} else {
				all[f.GetName()] = f
			}
		}
	}
	var out bytes.Buffer
	encoder := expfmt.NewEncoder(&out, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, f := range all {
		if err := encoder.Encode(f); err != nil {
			return 0, err
		}
	}
	return out.Len(), nil
}
