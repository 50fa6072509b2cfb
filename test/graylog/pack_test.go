package graylog

import (
	"encoding/json"
	"flag"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write deploy/graylog/content-pack.json")

const deployed = "../../deploy/graylog/"

// pack is what the checks need to know of a content pack.
type pack struct {
	V        string
	ID       string
	Entities []struct {
		V           string
		Type        struct{ Name, Version string }
		ID          string
		Data        json.RawMessage
		Constraints []struct{ Type, Version string }
	}
}

func readPack(t *testing.T) (p pack, all any) {
	t.Helper()
	data, err := os.ReadFile(deployed + "content-pack.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &p); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	return p, all
}

// walk calls f for every object of a document.
func walk(v any, f func(map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		f(v)
		for _, child := range v {
			walk(child, f)
		}
	case []any:
		for _, child := range v {
			walk(child, f)
		}
	}
}

func texts(v any) (all []string) {
	list, _ := v.([]any)
	for _, e := range list {
		s, _ := e.(string)
		all = append(all, s)
	}
	return all
}

// TestPackIsWritten: the file is what this package writes.
func TestPackIsWritten(t *testing.T) {
	want, err := Pack()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(deployed+"content-pack.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(deployed + "content-pack.json")
	if err != nil || string(got) != string(want) {
		t.Errorf("deploy/graylog/content-pack.json is not what Pack returns: run go test ./test/graylog -update (%v)", err)
	}
}

// TestPackEntities: entities are of kinds and versions that Graylog has, each once, and
// references lead to one.
func TestPackEntities(t *testing.T) {
	p, all := readPack(t)
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	kinds, streams := map[string]int{}, []string{"000000000000000000000002"}
	seen := map[string]bool{p.ID: true}
	for _, e := range p.Entities {
		kind := e.Type.Name + " " + e.Type.Version
		kinds[kind]++
		if e.V != "1" || !uuid.MatchString(e.ID) || seen[e.ID] || len(e.Constraints) != 1 || e.Constraints[0].Type != "server-version" || e.Constraints[0].Version != ">=5.1.0" {
			t.Errorf("%s: %+v", kind, e.ID)
		}
		if seen[e.ID] = true; e.Type.Name == "stream" {
			streams = append(streams, e.ID)
		}
	}
	want := map[string]int{"input 1": 1, "stream 1": 2, "search 1": 3, "dashboard 2": 1, "event_definition 1": 3}
	for kind, n := range want {
		if kinds[kind] != n {
			t.Errorf("%s: %d", kind, kinds[kind])
		}
	}
	if p.V != "1" || !uuid.MatchString(p.ID) || len(kinds) != len(want) {
		t.Errorf("version %q, id %q, kinds %v", p.V, p.ID, kinds)
	}
	references := 0
	walk(all, func(o map[string]any) {
		found := texts(o["streams"])
		if o["type"] == "stream" {
			found = append(found, o["id"].(string))
		}
		for _, s := range found {
			references++
			if !slices.Contains(streams, s) {
				t.Errorf("no stream %s", s)
			}
		}
		if kind, ok := o["@type"]; ok {
			_, isText := o["@value"].(string)
			_, isBool := o["@value"].(bool)
			_, isNumber := o["@value"].(float64)
			if len(o) != 2 || isText != (kind == "string") || isBool != (kind == "boolean") || isNumber != (kind == "integer") {
				t.Errorf("value %v", o)
			}
		}
	})
	if references < 30 {
		t.Errorf("%d references to streams are found: the search is broken", references)
	}
}

// TestPackViews: each widget has a search of the same kind, query and streams, a title
// and a place of its own on its page of 12 columns.
func TestPackViews(t *testing.T) {
	p, _ := readPack(t)
	type part struct {
		ID, Type string
		Query    struct {
			Text string `json:"query_string"`
		}
		Streams []string
	}
	widgets := 0
	for _, e := range p.Entities {
		if e.Type.Name != "dashboard" && e.Type.Name != "search" {
			continue
		}
		var v struct {
			Type   string
			Search struct {
				Queries []struct {
					ID          string
					SearchTypes []part `json:"search_types"`
				}
			}
			State map[string]struct {
				Titles    struct{ Widget map[string]string }
				Widgets   []part
				Mapping   map[string][]string `json:"widget_mapping"`
				Positions map[string]struct{ Col, Row, Width, Height int }
			}
		}
		if err := json.Unmarshal(e.Data, &v); err != nil {
			t.Fatal(err)
		}
		if v.Type != strings.ToUpper(e.Type.Name) || len(v.State) != len(v.Search.Queries) || len(v.State) == 0 {
			t.Errorf("%s of type %s: %d pages, %d queries", e.Type.Name, v.Type, len(v.State), len(v.Search.Queries))
		}
		for _, q := range v.Search.Queries {
			page, ok := v.State[q.ID]
			if !ok || len(page.Widgets) != len(q.SearchTypes) || len(page.Widgets) == 0 {
				t.Fatalf("query %s: %d widgets, %d searches", q.ID, len(page.Widgets), len(q.SearchTypes))
			}
			taken := map[[2]int]string{}
			for _, w := range page.Widgets {
				widgets++
				i := slices.IndexFunc(q.SearchTypes, func(s part) bool { return slices.Equal(page.Mapping[w.ID], []string{s.ID}) })
				if i < 0 {
					t.Fatalf("widget %s has no search", w.ID)
				}
				s := q.SearchTypes[i]
				kind := map[string]string{"aggregation": "pivot", "messages": "messages"}[w.Type]
				if s.Type != kind || s.Query != w.Query || !slices.Equal(s.Streams, w.Streams) || page.Titles.Widget[w.ID] == "" {
					t.Errorf("widget %+v, search %+v, title %q", w, s, page.Titles.Widget[w.ID])
				}
				at := page.Positions[w.ID]
				if at.Col < 1 || at.Row < 1 || at.Width < 1 || at.Height < 1 || at.Col+at.Width > 13 {
					t.Errorf("%q at %+v", page.Titles.Widget[w.ID], at)
				}
				for x := range at.Width {
					for y := range at.Height {
						cell := [2]int{at.Col + x, at.Row + y}
						if taken[cell] != "" {
							t.Fatalf("%q is over %q", page.Titles.Widget[w.ID], taken[cell])
						}
						taken[cell] = page.Titles.Widget[w.ID]
					}
				}
			}
		}
	}
	if widgets < 15 {
		t.Errorf("%d widgets are found", widgets)
	}
}

// TestPackFields: every field that is searched, counted or shown is one that
// docs/mapping.md tells of, or Graylog's own.
func TestPackFields(t *testing.T) {
	mapping, err := os.ReadFile("../../docs/mapping.md")
	if err != nil {
		t.Fatal(err)
	}
	_, all := readPack(t)
	fields := map[string]bool{}
	add := func(names ...string) {
		for _, name := range names {
			fields[name] = true
		}
	}
	inQuery := regexp.MustCompile(`_exists_:(\w+)|(\w+):`)
	walk(all, func(o map[string]any) {
		add(texts(o["fields"])...)
		add(texts(o["group_by"])...)
		if field, ok := o["field"].(string); ok && o["type"] != "series" {
			add(field)
		}
		if field, ok := o["field"].(map[string]any); ok { // of a stream's rule
			add(field["@value"].(string))
		}
		queries := []any{o["query_string"]}
		if q, ok := o["query"].(map[string]any); ok {
			queries = append(queries, q["@value"])
		}
		for _, q := range queries {
			text, _ := q.(string)
			for _, m := range inQuery.FindAllStringSubmatch(text, -1) {
				add(strings.TrimPrefix(m[0], "_exists_:"))
			}
		}
	})
	if len(fields) < 9 {
		t.Fatalf("fields %v: the search is broken", fields)
	}
	for field := range fields {
		field = strings.TrimSuffix(field, ":")
		if !slices.Contains([]string{"timestamp", "source", "message", "level"}, field) && !strings.Contains(string(mapping), "`_"+field+"`") {
			t.Errorf("docs/mapping.md has no field _%s", field)
		}
	}
}

// TestIndexTemplate: no text becomes a date, and no text can be too long for a term of
// Lucene, of 32,766 bytes, whatever characters it is made of.
func TestIndexTemplate(t *testing.T) {
	data, err := os.ReadFile(deployed + "index-template.json")
	if err != nil {
		t.Fatal(err)
	}
	var template struct {
		Patterns []string `json:"index_patterns"`
		Order    int
		Mappings struct {
			DateDetection *bool `json:"date_detection"`
			Dynamic       []map[string]struct {
				Match   string `json:"match_mapping_type"`
				Mapping struct {
					Type        string
					IgnoreAbove int `json:"ignore_above"`
				}
			} `json:"dynamic_templates"`
		}
	}
	if err := json.Unmarshal(data, &template); err != nil {
		t.Fatal(err)
	}
	m := template.Mappings
	if !slices.Equal(template.Patterns, []string{"graylog_*"}) || template.Order <= -1 || m.DateDetection == nil || *m.DateDetection || len(m.Dynamic) != 1 {
		t.Fatalf("%+v", template)
	}
	// Graylog's own template has this name, with the order -1: the higher order replaces it.
	if own, ok := m.Dynamic[0]["store_generic"]; !ok || own.Match != "string" || own.Mapping.Type != "keyword" || own.Mapping.IgnoreAbove < 1000 || own.Mapping.IgnoreAbove*3 > 32766 {
		t.Errorf("%+v", m.Dynamic)
	}
}
