package graylog

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"testing"
)

// made is what Graylog makes of an entity of a content pack. Which members are set depends
// on the kind.
type made struct {
	Kind, Title string
	Type        any
	Missing     []string // values that an input wants
	Unknown     []string // values that it does not know
	Values      map[string]any
	Matching    string
	Disabled    bool
	Remove      bool
	Rules       []struct {
		Field, Type, Value string
		Inverted           bool
	}
	Streams []string
	Widgets []string
	Errors  map[string]any
	Alert   bool
	Storage []struct {
		Type    string
		Streams []string
	}
}

// TestGraylogReadsPack has Graylog's own classes make of the content pack what they make
// when it is installed: every entity has all that Graylog wants and nothing that it does
// not know, references lead to the streams of the pack, and queries can be parsed.
func TestGraylogReadsPack(t *testing.T) {
	pack, err := os.ReadFile(deployed + "content-pack.json")
	if err != nil {
		t.Fatal(err)
	}
	cmd := java(t, "Import.java")
	cmd.Stdin = bytes.NewReader(pack)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("read the pack with Graylog's classes: %v", err)
	}
	all, missing := "made of "+streamID(stream), "made of "+streamID(gaps)
	fromOne := func(m *made, from string) bool { return slices.Equal(m.Streams, []string{from}) }
	check := map[string]func(*made) bool{
		"input logship": func(m *made) bool {
			return m.Type == true && len(m.Missing) == 0 && len(m.Unknown) == 0 && m.Values["port"] == 12201.0 && m.Values["use_null_delimiter"] == true
		},
		"stream logship":               func(m *made) bool { return m.takes("event_id") },
		"stream logship: gaps":         func(m *made) bool { return m.takes("gap_reason") },
		"search logship: errors":       func(m *made) bool { return fromOne(m, all) && m.Type == "SEARCH" && len(m.Widgets) == 2 },
		"search logship: broken lines": func(m *made) bool { return fromOne(m, all) && m.Type == "SEARCH" && len(m.Widgets) == 2 },
		"search logship: gaps":         func(m *made) bool { return fromOne(m, all) && m.Type == "SEARCH" && len(m.Widgets) == 2 },
		"dashboard logship": func(m *made) bool {
			slices.Sort(m.Streams)
			return slices.Equal(m.Streams, []string{missing, all}) && m.Type == "DASHBOARD" && len(m.Widgets) == 11
		},
		"event_definition logship: a service logs many errors": func(m *made) bool { return fromOne(m, all) && m.alerts() },
		"event_definition logship: lines are missing":          func(m *made) bool { return fromOne(m, missing) && m.alerts() },
		"event_definition logship: nothing arrives":            func(m *made) bool { return fromOne(m, all) && m.alerts() },
	}
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var m made
		if err := d.Decode(&m); err != nil {
			t.Fatal(err)
		}
		name := m.Kind + " " + m.Title
		if holds := check[name]; holds == nil || !holds(&m) {
			t.Errorf("%s becomes %+v", name, m)
		}
		for _, w := range m.Widgets {
			if w != "AggregationConfigDTO of pivot" && w != "MessageListConfigDTO of messages" {
				t.Errorf("%s has a widget %s", name, w)
			}
		}
		delete(check, name)
	}
	for name := range check {
		t.Errorf("Graylog makes no %s", name)
	}
}

// takes reports whether a stream takes copies of all messages that have a field.
func (m *made) takes(field string) bool {
	return m.Matching == "AND" && !m.Disabled && !m.Remove && len(m.Rules) == 1 && m.Rules[0].Field == field && m.Rules[0].Type == "PRESENCE" && !m.Rules[0].Inverted
}

// alerts reports whether an event definition is valid and its events are stored where
// Graylog's page of alerts looks.
func (m *made) alerts() bool {
	return len(m.Errors) == 0 && m.Alert && len(m.Storage) == 1 && m.Storage[0].Type == "persist-to-streams-v1" &&
		slices.Equal(m.Storage[0].Streams, []string{"000000000000000000000002"})
}
