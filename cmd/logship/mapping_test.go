package main

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sidecar/internal/cli"
	"sidecar/internal/record"
)

func readPages(t *testing.T, names ...string) (pages []byte) {
	t.Helper()
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, b...)
	}
	return pages
}

// TestMappingExamples runs every example of docs/mapping.md and docs/redaction.md: a line, and the
// keys of its messages that the page shows; null means that a key is not there. A quoted line is a
// JSON string. Behind json stand the settings (set=) and the time of arrival (received=).
func TestMappingExamples(t *testing.T) {
	page := readPages(t, "../../docs/mapping.md", "../../docs/redaction.md")
	example := regexp.MustCompile("(?s)```text( quoted)?\n(.*?)\n```\n```json(?: (set|received)=(\\S+))?\n(.*?)```")
	found := example.FindAllSubmatch(page, -1)
	if len(found) < 80 || len(found) != bytes.Count(page, []byte("```json")) {
		t.Fatalf("%d examples found, %d blocks", len(found), bytes.Count(page, []byte("```json")))
	}
	for _, m := range found {
		line, option, want := string(m[2]), string(m[3]), m[5]
		if len(m[1]) > 0 {
			if err := json.Unmarshal(m[2], &line); err != nil {
				t.Errorf("%s: %v", m[2], err)
			}
		}
		args := []string{"parse", "--json", line}
		if option != "" {
			args = append(args, "--"+option, string(m[4]))
		}
		mapExample(t, args, line, want)
	}
}

// mapExample compares what a command prints for a line with the keys that its messages must have.
func mapExample(t *testing.T, args []string, line string, want []byte) {
	t.Helper()
	var out, stderr bytes.Buffer
	if code := run(args, os.Stdin, &out, &stderr); code != cli.ExitOK {
		t.Errorf("%s: exit code %d: %s", line, code, stderr.String())
		return
	}
	var got []map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Errorf("%s: %v", line, err)
		return
	}
	decode, messages := json.NewDecoder(bytes.NewReader(want)), 0
	for ; decode.More(); messages++ {
		var keys map[string]any
		if err := decode.Decode(&keys); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		for k, v := range keys {
			if messages < len(got) && !reflect.DeepEqual(got[messages][k], v) {
				t.Errorf("%s\nmessage %d: %s is not %v in %s", line, messages+1, k, v, strings.TrimSpace(out.String()))
			}
		}
	}
	if messages != len(got) {
		t.Errorf("%s: %d messages, want %d", line, len(got), messages)
	}
}

// TestDegradedReasonsAreDocumented compares the reasons of docs/mapping.md with those that there are.
func TestDegradedReasonsAreDocumented(t *testing.T) {
	page := string(readPages(t, "../../docs/mapping.md"))
	_, table, _ := strings.Cut(page, "| reason | what happened |\n|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	var documented, want []string
	for row := range strings.SplitSeq(table, "\n") {
		documented = append(documented, strings.Fields(row)[1])
	}
	for d := record.Degraded(1); d < record.LastDegraded; d <<= 1 {
		want = append(want, d.String())
	}
	if !slices.Equal(documented, want) {
		t.Errorf("documented are %q, want %q", documented, want)
	}
}
