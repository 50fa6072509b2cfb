package redact

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"sidecar/internal/gelf"
	"sidecar/internal/parse"
	"sidecar/internal/parse/parsetest"
	"sidecar/internal/record"
)

func newRedactor(tb testing.TB, o Options) *Redactor {
	tb.Helper()
	r, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// frames returns the messages of a line, decoded; redacted if r is not nil.
func frames(tb testing.TB, p *parse.Parser, r *Redactor, line []byte) (docs []map[string]any, text string) {
	tb.Helper()
	records := p.Parse(nil, &record.Entry{Message: line, Priority: -1})
	for i := range records {
		if r != nil {
			r.Apply(&records[i])
		}
		frame := gelf.Append(nil, &records[i], &gelf.Options{Host: "web-01"})
		var m map[string]any
		if err := json.Unmarshal(frame, &m); err != nil {
			tb.Fatalf("frame is not JSON: %v\n%s", err, frame)
		}
		docs = append(docs, m)
		text += string(frame) + "\n"
	}
	return docs, text
}

// TestCorpusSecretsAreGone also has the lines as text without prefix, truncated,
// and in JSON in a string.
func TestCorpusSecretsAreGone(t *testing.T) {
	lines, cases := parsetest.Corpus()
	p, r := parse.New(parse.Options{}), newRedactor(t, Options{})
	secrets := 0
	for _, c := range cases {
		line := lines[c.N-1]
		inString, err := json.Marshal(map[string]any{"level": "info", "message": "m", "body": string(line), "list": []string{string(line)}})
		if err != nil {
			t.Fatal(err)
		}
		for how, l := range map[string][]byte{
			"as it is": line, "as text": append([]byte("got "), line[min(8, len(line)):]...), "truncated": line[:max(len(line)-2, 0)], "in a string": append([]byte("_jsonrc:"), inString...),
		} {
			_, text := frames(t, p, r, l)
			for _, s := range c.Secrets {
				secrets++
				quoted, _ := json.Marshal(s.Value)
				if s.Check == "substring" && (strings.Contains(text, s.Value) || strings.Contains(text, strings.Trim(string(quoted), `"`))) {
					t.Errorf("line %d (%s) %s: %s %s is left\n%s\n%s", c.N, c.Case, how, s.Kind, s.Value, text, l)
				}
			}
		}
	}
	if secrets < 100 {
		t.Errorf("the corpus has %d secrets", secrets)
	}
}

// TestCorpusCutAtEveryByte checks that of a secret that is cut no beginning is
// left. The head of a JWT is no secret, and a key of a service is only known by
// its length.
func TestCorpusCutAtEveryByte(t *testing.T) {
	lines, cases := parsetest.Corpus()
	p, r := parse.New(parse.Options{}), newRedactor(t, Options{})
	const telling = 9 // bytes: longer than sk_test_, which says nothing by itself
	cuts := 0
	for _, c := range cases {
		line := lines[c.N-1]
		for _, s := range c.Secrets {
			at := bytes.Index(line, []byte(s.Value))
			switch s.Kind {
			case "jwt", "awsid", "pan", "iban", "cvv", "pem":
				continue
			}
			for n := telling; at >= 0 && n < len(s.Value); n++ {
				cuts++
				if _, text := frames(t, p, r, line[:at+n]); strings.Contains(text, s.Value[:n]) {
					t.Errorf("line %d (%s): %s is left\n%s", c.N, c.Case, s.Value[:n], text)
				}
			}
		}
	}
	if cuts < 500 {
		t.Errorf("%d cuts", cuts)
	}
}

// TestCorpusRedactedAsRecommended compares the lines with secrets with the
// recommended mapping, whole.
func TestCorpusRedactedAsRecommended(t *testing.T) {
	lines, cases := parsetest.Corpus()
	p, r := parse.New(parse.Options{}), newRedactor(t, Options{})
	compared := 0
	for _, c := range cases {
		if len(c.Secrets) == 0 && len(c.Decoys) == 0 {
			continue
		}
		compared++
		docs, _ := frames(t, p, r, lines[c.N-1])
		for i, g := range c.Expected.GELF {
			for k, want := range g.Should {
				if !parsetest.Same(k, want, docs[i][k], lines[c.N-1]) {
					t.Errorf("line %d (%s): %s = %v, want %v", c.N, c.Case, k, docs[i][k], want)
				}
			}
			for k, v := range docs[i] {
				if _, expected := g.Should[k]; !expected && k != "version" && k != "host" && k != "level" {
					t.Errorf("line %d (%s): %s = %v, want none", c.N, c.Case, k, v)
				}
			}
		}
	}
	if compared < 30 {
		t.Errorf("%d lines compared", compared)
	}
}

// TestCorpusTextStays checks that what is no secret is not touched: every line
// without one, and of those with one every value without it.
func TestCorpusTextStays(t *testing.T) {
	lines, cases := parsetest.Corpus()
	p, r := parse.New(parse.Options{}), newRedactor(t, Options{})
	bySecret := map[int]bool{}
	for _, c := range cases {
		bySecret[c.N] = len(c.Secrets) > 0
	}
	for i, line := range append(lines, parsetest.BenchLines()...) {
		if i < len(lines) && bySecret[i+1] {
			continue
		}
		_, before := frames(t, p, nil, line)
		if _, after := frames(t, p, r, line); after != before {
			t.Errorf("line %d:\n%s\nwas\n%s", i+1, after, before)
		}
	}
}
