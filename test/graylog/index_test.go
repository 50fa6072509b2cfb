package graylog

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"sidecar/internal/gelf"
	"sidecar/internal/gelf/judgetest"
)

// opensearch is the URL of a real OpenSearch that belongs to a test.
type opensearch string

// startOpenSearch starts an OpenSearch of one node, without any data.
func startOpenSearch(t *testing.T) opensearch {
	t.Helper()
	cmd := java(t, "Index.java", t.TempDir())
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("OpenSearch: %v", err)
		}
	})
	url, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("start OpenSearch: %v", err)
	}
	return opensearch(strings.TrimSpace(url))
}

// do makes a request with JSON, or lines of it, and returns the status and the answer.
func (o opensearch) do(t *testing.T, method, path string, body []byte) (int, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, string(o)+"/"+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer
}

// must makes a request that has to succeed.
func (o opensearch) must(t *testing.T, method, path string, body []byte) []byte {
	t.Helper()
	status, answer := o.do(t, method, path, body)
	if status/100 != 2 {
		t.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
	return answer
}

// put puts a document into an index, which is made if it is not there, and returns why it
// is refused, or "".
func (o opensearch) put(t *testing.T, index string, document any) string {
	t.Helper()
	body, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	status, answer := o.do(t, "POST", index+"/_doc?refresh=true", body)
	if status/100 == 2 {
		return ""
	}
	return string(answer)
}

// count returns how many documents of an index have a value in a field.
func (o opensearch) count(t *testing.T, index, field, value string) (n int) {
	t.Helper()
	query, err := json.Marshal(object{"query": object{"term": object{field: value}}})
	if err != nil {
		t.Fatal(err)
	}
	var answer struct{ Count int }
	if err := json.Unmarshal(o.must(t, "GET", index+"/_count", query), &answer); err != nil {
		t.Fatal(err)
	}
	return answer.Count
}

// holds checks what docs/graylog.md says about the index template: what happens without
// it, and what does not happen with it. Graylog's own template is there in both cases.
func (o opensearch) holds(t *testing.T) {
	long, most, over := strings.Repeat("x", 40_000), strings.Repeat("€", 10_922), strings.Repeat("€", 10_922)+"x" // 32,766 bytes are the most
	for _, d := range []struct {
		field, value, without string // why the document is refused without the template
	}{
		{"number", "42", ""}, {"number", "forty-two", ""},
		{"date", "2026-11-17", ""}, {"date", "soon", "failed to parse date field"},
		{"term", most, ""}, {"term", over, "immense term"}, {"term", long, "immense term"},
	} {
		document := object{"message": "m", "timestamp": "2026-11-17 08:15:30.000", "level": 6, d.field: d.value}
		if got := o.put(t, "graylog_0", document); !strings.Contains(got, d.without) || d.without == "" && got != "" {
			t.Errorf("without the template, %s %.20q: %.300q", d.field, d.value, got)
		}
	}

	template, err := os.ReadFile(deployed + "index-template.json")
	if err != nil {
		t.Fatal(err)
	}
	o.must(t, "PUT", "_template/logship", template)
	for i, d := range []struct {
		field, value string
		found        int // by a search for the value
	}{
		{"number", "42", 1}, {"number", "forty-two", 1}, {"date", "2026-11-17", 1}, {"date", "soon", 1},
		{"term", strings.Repeat("€", 8191), 1}, {"term", strings.Repeat("€", 8192), 0}, {"term", over, 0}, {"term", long, 0},
		{"term", strings.Repeat("😀", 4095), 1}, {"term", strings.Repeat("😀", 4096), 0}, // two characters each, in UTF-16
	} {
		document := object{"message": fmt.Sprint("m", i), "timestamp": "2026-11-17 08:15:30.000", "level": 6, d.field: d.value}
		if got := o.put(t, "graylog_1", document); got != "" {
			t.Errorf("with the template, %s %.20q: %.300q", d.field, d.value, got)
		}
		if n := o.count(t, "graylog_1", d.field, d.value); n != d.found {
			t.Errorf("%s %.20q: %d are found, want %d", d.field, d.value, n, d.found)
		}
		if answer := o.must(t, "GET", fmt.Sprintf("graylog_1/_search?q=message:m%d", i), nil); !bytes.Contains(answer, []byte(d.value)) {
			t.Errorf("%s %.20q is not shown: %.300s", d.field, d.value, answer)
		}
	}
	var mapping struct {
		Index struct {
			Mappings struct {
				DateDetection *bool `json:"date_detection"`
				Properties    map[string]struct{ Type string }
			}
		} `json:"graylog_1"`
	}
	if err := json.Unmarshal(o.must(t, "GET", "graylog_1/_mapping", nil), &mapping); err != nil {
		t.Fatal(err)
	}
	m := mapping.Index.Mappings
	if m.DateDetection == nil || *m.DateDetection || m.Properties["date"].Type != "keyword" || m.Properties["level"].Type != "long" || m.Properties["message"].Type != "text" {
		t.Errorf("mapping %+v", m)
	}
}

// takes puts documents into one index, in their order, and reports those that are refused.
func (o opensearch) takes(t *testing.T, index string, documents []answer) {
	t.Helper()
	var bulk bytes.Buffer
	for _, d := range documents {
		line, err := json.Marshal(d.Document)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&bulk, "{\"index\":{}}\n%s\n", line)
	}
	var answer struct {
		Items []struct {
			Index struct {
				Status int
				Error  json.RawMessage
			}
		}
	}
	if err := json.Unmarshal(o.must(t, "POST", index+"/_bulk", bulk.Bytes()), &answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.Items) != len(documents) {
		t.Fatalf("%d answers for %d documents", len(answer.Items), len(documents))
	}
	for i, item := range answer.Items {
		if item.Index.Status != http.StatusCreated {
			t.Errorf("refused: %s\n%v", item.Index.Error, documents[i].Document)
		}
	}
}

// agrees puts a document into an index of its own, in which level is a number, and
// compares what happens with the verdict.
func (o opensearch) agrees(t *testing.T, index string, c judgetest.Message, got answer) {
	if got.Document == nil {
		return
	}
	o.must(t, "PUT", index, []byte(`{"mappings":{"properties":{"level":{"type":"long"}}}}`))
	defer o.must(t, "DELETE", index, nil)
	refused := o.put(t, index, got.Document)
	if v := gelf.Judge([]byte(c.In)); (refused == "") != (v.Outcome == gelf.Accepted) {
		t.Errorf("judged %s; the index says %.500q", v.Summary(), refused)
	}
}
