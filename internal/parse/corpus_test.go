package parse

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"sidecar/internal/gelf"
	"sidecar/internal/parse/parsetest"
	"sidecar/internal/record"
)

// convert returns the GELF messages of a line as text and as decoded by
// encoding/json.
func convert(tb testing.TB, p *Parser, e *record.Entry) (frames []string, docs []map[string]any) {
	tb.Helper()
	records := p.Parse(nil, e)
	for i := range records {
		b := gelf.Append(nil, &records[i], &gelf.Options{Host: "web-01"})
		var m map[string]any
		if err := json.Unmarshal(b, &m); err != nil {
			tb.Fatalf("frame is not JSON: %v\n%s", err, b)
		}
		frames, docs = append(frames, string(b)), append(docs, m)
	}
	return frames, docs
}

func TestCorpusMust(t *testing.T) {
	lines, cases := parsetest.Corpus()
	p := New(Options{})
	for _, c := range cases {
		_, docs := convert(t, p, &record.Entry{Message: lines[c.N-1], Priority: -1})
		if len(docs) != c.Expected.Messages && moreMessages[c.N] == "" {
			t.Errorf("line %d (%s): %d messages, want %d\n%.300s", c.N, c.Case, len(docs), c.Expected.Messages, lines[c.N-1])
			continue
		}
		for i, g := range c.Expected.GELF {
			if d := differences(g.Must, docs[i], lines[c.N-1], false); len(d) > 0 {
				t.Errorf("line %d (%s) message %d: %s\n%.400s", c.N, c.Case, i, strings.Join(d, "; "), lines[c.N-1])
			}
		}
	}
}

// moreMessages are the lines that become another number of messages than the
// corpus says.
var moreMessages = map[int]string{
	416: "two writers in one line: the second one's document is whole, and becomes a message of its own",
}

// TestCorpusShould compares all keys with the recommended mapping. Lines with
// secrets differ as long as nothing redacts them.
func TestCorpusShould(t *testing.T) {
	lines, cases := parsetest.Corpus()
	p := New(Options{})
	held, waived := 0, 0
	for _, c := range cases {
		_, docs := convert(t, p, &record.Entry{Message: lines[c.N-1], Priority: -1})
		var diff []string
		secret := len(c.Secrets) > 0
		for i, g := range c.Expected.GELF {
			if i < len(docs) {
				diff = append(diff, differences(g.Should, docs[i], lines[c.N-1], true)...)
			}
		}
		why, listed := deviations[c.N]
		switch {
		case len(diff) == 0 && listed:
			t.Errorf("line %d (%s) is listed as a deviation (%s) and holds", c.N, c.Case, why)
		case len(diff) == 0:
			held++
		case secret:
			waived++
		case !listed:
			t.Errorf("line %d (%s): %.600s\n%.300s", c.N, c.Case, strings.Join(diff, "; "), lines[c.N-1])
		}
	}
	t.Logf("%d of %d lines are mapped as recommended, %d listed deviations, %d wait for redaction", held, len(cases), len(deviations), waived)
}

// differences returns what keeps got from having all keys of want; with exact,
// also the keys that are too many.
func differences(want, got map[string]any, line []byte, exact bool) (diff []string) {
	for k, w := range want {
		if !parsetest.Same(k, w, got[k], line) {
			diff = append(diff, fmt.Sprintf("%s = %.200v, want %.200v", k, got[k], w))
		}
	}
	if exact {
		for k, v := range got {
			if _, expected := want[k]; !expected && !envelopeKey[k] && !strings.HasPrefix(k, "_sd_") {
				diff = append(diff, fmt.Sprintf("%s = %.200v, want none", k, v))
			}
		}
	}
	slices.Sort(diff)
	return diff
}

// envelopeKey are keys that the corpus does not speak of.
var envelopeKey = map[string]bool{
	"version": true, "host": true, "level": true,
	"_application_name": true, "_process_id": true, "_leading": true,
	"_msgid":    true, // and those of structured data
	"timestamp": true,
}

// TestCorpusStructuredData: the lines of the corpus with structured data have it as fields.
func TestCorpusStructuredData(t *testing.T) {
	lines, cases := parsetest.Corpus()
	found := 0
	for _, c := range cases {
		if !bytes.Contains(lines[c.N-1], []byte("[origin software=")) {
			continue
		}
		found++
		members(t, c.Case, one(t, Options{}, &record.Entry{Message: lines[c.N-1], Priority: -1}),
			`{"_msgid":"REQ","_sd_meta_32473_env":"prod","_sd_meta_32473_note":"a \"q\" ] b","_sd_origin_software":"node"}`)
	}
	if found != 3 {
		t.Errorf("%d lines, want 3", found)
	}
}

var nameOK = regexp.MustCompile(`^_[A-Za-z0-9_.-]+$`)

// invariant returns the first invariant of the corpus that a message breaks.
func invariant(frame string, m map[string]any) string {
	if !utf8.ValidString(frame) || strings.IndexByte(frame, 0) >= 0 {
		return "not valid UTF-8 or a NUL"
	}
	blankText := func(v any) bool {
		s, is := v.(string)
		return !is || isBlank([]byte(s))
	}
	switch level, is := m["level"].(float64); {
	case m["version"] != "1.1":
		return "version"
	case blankText(m["host"]):
		return "host"
	case blankText(m["short_message"]):
		return "short_message"
	case !is || level != math.Trunc(level) || level < 0 || level > 7:
		return "level"
	}
	for k, v := range m {
		switch k {
		case "version", "host", "short_message", "level":
			continue
		case "full_message":
			if blankText(v) {
				return k
			}
			continue
		case "timestamp":
			if x, is := v.(float64); !is || x <= 0 {
				return k
			}
			continue
		case "_id", "_host", "_source", "_message", "_timestamp", "_level", "_short_message", "_full_message", "_streams":
			return k
		}
		if !nameOK.MatchString(k) || strings.HasPrefix(k, "__") || strings.HasPrefix(k, "_gl2_") {
			return "name " + k
		}
		switch x := v.(type) {
		case float64:
		case string:
			if len(x) > 32766 || isBlank([]byte(x)) {
				return "value of " + k
			}
		default:
			return "type of " + k
		}
	}
	return ""
}

func TestCorpusInvariants(t *testing.T) {
	lines, _ := parsetest.Corpus()
	p := New(Options{})
	for i, line := range lines {
		frames, docs := convert(t, p, &record.Entry{Message: line, Priority: -1})
		said := strings.TrimPrefix(string(line), "_jsonrc:") // a prefix alone says nothing
		if len(docs) == 0 && strings.TrimSpace(said) != "" {
			t.Errorf("line %d is lost: %.300q", i+1, line)
		}
		for j := range docs {
			if broken := invariant(frames[j], docs[j]); broken != "" {
				t.Errorf("line %d: %s\n%.300s", i+1, broken, frames[j])
			}
		}
	}
}

// deviations are the lines whose mapping differs from the recommended one, with
// the reason, word for word as docs/mapping.md gives it.
var deviations = map[int]string{
	102: "the time 0 is not sent: Graylog takes it for none, and it stays as `_timestamp_original`",
	351: "JSON text in a field is cut at 32,000 bytes like any text: OpenSearch refuses the whole message for a longer one",
	360: "the first line of pretty-printed JSON alone cannot be told from an inspected object, and is marked; read with its other lines it is whole",
	413: "the text of a cut document is kept in `full_message` also beside another document",
	414: "the text of a cut document is kept in `full_message` also beside another document",
	416: "the second writer's document is whole, so it is a message of its own, and its time is not given to the first",
	417: "the text begins as the line does, with no prefix that is not there",
	434: "the end of a document alone is read as what is left of one; read with its other pieces it is whole",
}

// TestDeviationsAreDocumented compares the table of docs/mapping.md with
// deviations.
func TestDeviationsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/mapping.md")
	if err != nil {
		t.Fatal(err)
	}
	_, cases := parsetest.Corpus()
	documented := map[int]string{}
	for _, row := range regexp.MustCompile(`(?m)^\| (\d+) (\S+) \| (.*) \|$`).FindAllStringSubmatch(string(page), -1) {
		n, err := strconv.Atoi(row[1])
		if err != nil || n < 1 || n > len(cases) || cases[n-1].Case != row[2] {
			t.Errorf("row %q names no case of the corpus", row[0])
		}
		documented[n] = row[3]
	}
	if !maps.Equal(documented, deviations) {
		t.Errorf("documented are %v\nwant %v", documented, deviations)
	}
}
