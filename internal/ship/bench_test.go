package ship

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"sidecar/internal/gelf"
	"sidecar/internal/guard"
	"sidecar/internal/parse"
	"sidecar/internal/parse/parsetest"
	"sidecar/internal/record"
	"sidecar/internal/redact"
	"sidecar/internal/rules"
	"sidecar/test/cputime"
)

// defaultPipeline returns what the default configuration makes, the guard of
// types being optional.
func defaultPipeline(tb testing.TB, typed bool) *Pipeline {
	tb.Helper()
	applied, err := rules.New(rules.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	redactor, err := redact.New(redact.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	p := &Pipeline{Parser: parse.New(parse.Options{Zone: time.UTC}), Rules: applied, Redactor: redactor, GELF: gelf.Options{Host: "web-01"}}
	if typed {
		p.Guard = guard.New(guard.Options{})
	}
	return p
}

// chain is what the line does with an entry between its sources and its output.
type chain struct {
	*Pipeline
	records []record.Record
	frames  []byte
}

// ship makes the frames of e.
func (c *chain) ship(e *record.Entry) {
	c.records, _ = c.Records(c.records[:0], e)
	c.frames = c.frames[:0]
	for i := range c.records {
		c.frames = append(gelf.Append(c.frames, &c.records[i], &c.GELF), 0)
	}
}

// BenchmarkChain reports the cost of a line from a source's entry to the frames
// for the output, beside what a straightforward program with encoding/json needs
// for less. The names are rows of a table in docs/performance.md.
func BenchmarkChain(b *testing.B) {
	entries, meanBytes := parsetest.BenchEntries()
	run := func(name string, ship func(*record.Entry)) {
		b.Run(name, func(b *testing.B) {
			for i := range entries { // warm up: buffers grow to the longest line, types are learned
				ship(&entries[i])
			}
			b.SetBytes(meanBytes)
			b.ReportAllocs()
			report := cputime.Start(b)
			for i := 0; b.Loop(); i++ {
				ship(&entries[i%len(entries)])
			}
			report()
		})
	}
	run("logship: parse, rules, redact, encode", (&chain{Pipeline: defaultPipeline(b, false)}).ship)
	run("logship: parse, rules, redact, guard types, encode", (&chain{Pipeline: defaultPipeline(b, true)}).ship)
	run("encoding/json: decode, rename, encode", func(e *record.Entry) {
		if _, err := plainGELF(e.Message, "web-01"); err != nil {
			b.Fatal(err)
		}
	})
}

// plainGELF returns the GELF message of a line as a program makes it that relies
// on the standard library: no levels but Winston's, no limits, no names that
// collide, no redaction, no repair of what is not JSON.
func plainGELF(line []byte, host string) ([]byte, error) {
	message := map[string]any{"version": "1.1", "host": host}
	var doc map[string]any
	if json.Unmarshal(bytes.TrimPrefix(line, []byte("_jsonrc:")), &doc) != nil {
		message["short_message"] = string(line)
	}
	for name, value := range doc {
		text, _ := value.(string)
		switch name {
		case "message":
			message["short_message"] = value
		case "level":
			message["level"] = plainLevel(text)
		case "timestamp":
			if t, err := time.Parse(time.RFC3339, text); err == nil {
				message["timestamp"] = float64(t.UnixMilli()) / 1000
			}
		default:
			message["_"+name] = value
		}
	}
	return json.Marshal(message)
}

// plainLevel returns the syslog severity of a level of Winston's npm levels.
func plainLevel(name string) int {
	switch name {
	case "error":
		return 3
	case "warn":
		return 4
	case "info", "http":
		return 6
	}
	return 7
}

// TestPlainGELF: the program to compare with does the job for a plain line.
func TestPlainGELF(t *testing.T) {
	got, err := plainGELF([]byte(`_jsonrc:{"level":"warn","message":"slow","timestamp":"2026-11-18T06:28:20.031Z","took":7.5}`), "web-01")
	const want = `{"_took":7.5,"host":"web-01","level":4,"short_message":"slow","timestamp":1794983300.031,"version":"1.1"}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
}

func TestPipelineDoesNotAllocate(t *testing.T) {
	entries, _ := parsetest.BenchEntries()
	for name, typed := range map[string]bool{"default": true, "without the guard": false} {
		t.Run(name, func(t *testing.T) {
			c := chain{Pipeline: defaultPipeline(t, typed)}
			all := func() {
				for i := range entries {
					c.ship(&entries[i])
				}
			}
			all() // warm up: buffers grow to the longest line, types are learned
			if n := testing.AllocsPerRun(3, all); n > 0 {
				t.Errorf("%.1f allocations per %d lines, want none", n, len(entries))
			}
		})
	}
}
