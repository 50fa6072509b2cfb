package textparse

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"sidecar/internal/promtext"
	"sidecar/test/cputime"
)

// BenchmarkPage compares what Prometheus needs to parse a page of 10,000 series, with
// labels and without, with reading it here, by the memo and without.
func BenchmarkPage(b *testing.B) {
	var text strings.Builder
	golden, err := os.ReadFile("../../internal/promtext/testdata/worker1.txt")
	if err != nil {
		b.Fatal(err)
	}
	text.Write(golden)
	text.WriteString("# TYPE route_requests_total counter\n")
	const series = 10_000
	for i := range series {
		fmt.Fprintf(&text, "route_requests_total{method=\"GET\",route=\"/api/v1/resource%d/:id\",status_code=\"200\"} %d\n", i, i*7)
	}
	page := []byte(text.String())
	measure := func(name string, read func(b *testing.B)) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(page)))
			b.ReportAllocs()
			report := cputime.StartEach(b, series, "cpu-ns/series")
			for b.Loop() {
				read(b)
			}
			report()
		})
	}
	target := promtext.NewTarget(promtext.Options{App: "x"})
	memo := func(b *testing.B) {
		if _, err := target.Read(page, promtext.Text); err != nil {
			b.Fatal(err)
		}
	}
	memo(nil)
	measure("promtext memo", memo)
	other := append([]byte("# TYPE other counter\n"), page...)
	n := 0
	measure("promtext validating", func(b *testing.B) {
		n++ // no page is like the last one
		if _, err := target.Read([][]byte{page, other}[n%2], promtext.Text); err != nil {
			b.Fatal(err)
		}
	})
	measure("textparse", func(b *testing.B) { parse(b, page, nil) })
	var l labels.Labels
	measure("textparse with labels", func(b *testing.B) { parse(b, page, &l) })
}

// parse parses a page and, unless l is nil, makes the labels of each series.
func parse(b *testing.B, page []byte, l *labels.Labels) {
	p, err := textparse.New(page, promtext.Text.ContentType(), labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		b.Fatal(err)
	}
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			b.Fatal(err)
		}
		if entry == textparse.EntrySeries {
			p.Series()
			if l != nil {
				p.Labels(l)
			}
		}
	}
}
