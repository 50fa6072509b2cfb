package main

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
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
// keys of its messages that the page shows; null means that a key is not there.
func TestMappingExamples(t *testing.T) {
	page := readPages(t, "../../docs/mapping.md", "../../docs/redaction.md")
	example := regexp.MustCompile("(?s)```text\n(.*?)\n```\n```json(?: received=(\\S+))?\n(.*?)```")
	found := example.FindAllSubmatch(page, -1)
	if len(found) < 20 || len(found) != bytes.Count(page, []byte("```json")) {
		t.Fatalf("%d examples found, %d blocks", len(found), bytes.Count(page, []byte("```json")))
	}
	for _, m := range found {
		line, received, want := string(m[1]), string(m[2]), m[3]
		args := []string{"parse", "--json", line}
		if received != "" {
			args = append(args, "--received", received)
		}
		var out, stderr bytes.Buffer
		if code := run(args, os.Stdin, &out, &stderr); code != exitOK {
			t.Errorf("%s: exit code %d: %s", line, code, stderr.String())
			continue
		}
		var got []map[string]any
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		decode := json.NewDecoder(bytes.NewReader(want))
		for i := 0; decode.More(); i++ {
			var keys map[string]any
			if err := decode.Decode(&keys); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			for k, v := range keys {
				if i >= len(got) || !reflect.DeepEqual(got[i][k], v) {
					t.Errorf("%s\nmessage %d: %s is not %v in %s", line, i+1, k, v, strings.TrimSpace(out.String()))
				}
			}
		}
	}
}
