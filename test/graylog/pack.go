// Package graylog writes deploy/graylog/content-pack.json and checks it. A content pack
// says everything about a widget twice, once for its search and once for how it is
// shown; here each is said once.
//
// The format is that of Graylog's content packs, version 1, with the entities of Graylog
// 5.1 and later (org.graylog2.contentpacks.model in its source).
package graylog

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
)

type object = map[string]any

// id returns the same UUID for the same name every time.
func id(name string) string {
	sum := sha256.Sum256([]byte("logship content pack: " + name))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80 // version 8, RFC 9562
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// val returns a value as references to parameters would stand there.
func val(v any) object {
	kind := "string"
	switch v.(type) {
	case bool:
		kind = "boolean"
	case int:
		kind = "integer"
	}
	return object{"@type": kind, "@value": v}
}

// entity returns one entity of the pack. Its name is unique among those of its kind.
func entity(kind, version, name string, data object) object {
	return object{"v": "1", "type": object{"name": kind, "version": version}, "id": id(kind + " " + name), "data": data,
		"constraints": []object{{"type": "server-version", "version": ">=5.1.0"}}}
}

const (
	day     = 24 * 3600
	updated = "2026-11-21T00:00:00.000Z"
	stream  = "logship"
	gaps    = "logship: gaps"
)

func streamID(name string) string { return id("stream " + name) }

// newStream returns a stream of the messages that have a field.
func newStream(name, description, field string) object {
	return entity("stream", "1", name, object{
		"title": val(name), "description": val(description), "disabled": val(false), "matching_type": val("AND"),
		"stream_rules":     []object{{"type": val("PRESENCE"), "field": val(field), "value": val(""), "inverted": val(false), "description": val("")}},
		"alert_conditions": []any{}, "alarm_callbacks": []any{}, "outputs": []any{}, "default_stream": val(false), "remove_matches": val(false)})
}

// widget is a box of a dashboard or a saved search: messages if it has fields, else
// what is counted.
type widget struct {
	title, query, stream string
	kind                 string   // of visualization
	rows, columns        []string // what is counted by; "timestamp" is a time line
	series               string   // such as count() or sum(field); "" is count()
	field                string   // of series
	fields               []string // of messages
	x, y, width, height  int
}

func query(q string) object { return object{"type": "elasticsearch", "query_string": q} }

func lastDay() object { return object{"type": "relative", "from": day} }

// groups returns what w is counted by as the widget and as the search say it.
func groups(fields []string) (shown, searched []object) {
	shown, searched = []object{}, []object{}
	for _, f := range fields {
		if f == "timestamp" {
			interval := object{"type": "auto", "scaling": 1.0}
			shown = append(shown, object{"type": "time", "fields": []string{f}, "config": object{"interval": interval}})
			searched = append(searched, object{"type": "time", "fields": []string{f}, "interval": interval})
			continue
		}
		shown = append(shown, object{"type": "values", "fields": []string{f}, "config": object{"limit": 15}})
		searched = append(searched, object{"type": "values", "fields": []string{f}, "limit": 15})
	}
	return shown, searched
}

// build returns the widget and its search.
func (w *widget) build(where string) (shown, searched object) {
	shown = object{"id": id("widget " + where + w.title), "type": "aggregation", "filter": nil, "filters": []any{},
		"timerange": lastDay(), "query": query(w.query), "streams": []string{streamID(w.stream)}}
	searched = object{"id": id("search type " + where + w.title), "name": nil, "type": "pivot", "filter": nil, "filters": []any{},
		"timerange": lastDay(), "query": query(w.query), "streams": []string{streamID(w.stream)}}
	if w.fields != nil {
		shown["type"], searched["type"] = "messages", "messages"
		shown["config"] = object{"fields": w.fields, "show_message_row": true, "show_summary": false, "decorators": []any{},
			"sort": []object{{"type": "pivot", "field": "timestamp", "direction": "Descending"}}}
		searched["limit"], searched["offset"], searched["decorators"] = 100, 0, []any{}
		searched["sort"] = []object{{"field": "timestamp", "order": "DESC"}}
		return shown, searched
	}
	rows, rowGroups := groups(w.rows)
	columns, columnGroups := groups(w.columns)
	kind, function, field := "count", "count()", any(nil)
	if w.series != "" {
		kind, function, field = w.series, w.series+"("+w.field+")", w.field
	}
	sorted := []object{}
	if len(w.rows) > 0 && w.rows[0] != "timestamp" {
		sorted = []object{{"type": "series", "field": function, "direction": "Descending"}}
	}
	shown["config"] = object{"row_pivots": rows, "column_pivots": columns, "series": []object{{"config": object{"name": nil}, "function": function}},
		"sort": sorted, "visualization": w.kind, "visualization_config": nil, "formatting_settings": nil, "rollup": w.kind == "numeric", "event_annotation": false}
	searched["row_groups"], searched["column_groups"] = rowGroups, columnGroups
	searched["series"] = []object{{"type": kind, "id": function, "field": field}}
	searched["sort"], searched["rollup"] = sorted, w.kind == "numeric"
	return shown, searched
}

// page is a tab of a dashboard, or a saved search.
type page struct {
	title   string
	query   string
	stream  string // of a saved search
	widgets []widget
}

// view returns a dashboard or a saved search.
func view(kind, version, title, description string, pages []page) object {
	state, queries := object{}, []object{}
	for _, p := range pages {
		where := title + " " + p.title
		shown, searched, titles, mapping, positions := []object{}, []object{}, object{}, object{}, object{}
		for i := range p.widgets {
			w := &p.widgets[i]
			s, q := w.build(where)
			shown, searched = append(shown, s), append(searched, q)
			key := s["id"].(string)
			titles[key], mapping[key] = w.title, []any{q["id"]}
			positions[key] = object{"col": w.x, "row": w.y, "width": w.width, "height": w.height}
		}
		var filter any
		if p.stream != "" {
			filter = object{"type": "or", "filters": []object{{"type": "stream", "id": streamID(p.stream)}}}
		}
		key := id("query " + where)
		queries = append(queries, object{"id": key, "timerange": lastDay(), "filter": filter, "filters": []any{}, "query": query(p.query), "search_types": searched})
		state[key] = object{"selected_fields": nil, "static_message_list_id": nil, "titles": object{"tab": object{"title": p.title}, "widget": titles},
			"widgets": shown, "widget_mapping": mapping, "positions": positions, "formatting": object{"highlighting": []any{}},
			"display_mode_settings": object{"positions": object{}}}
	}
	native := map[string]string{"dashboard": "DASHBOARD", "search": "SEARCH"}[kind]
	return entity(kind, version, title, object{"type": native, "title": val(title), "summary": val(""), "description": val(description),
		"search":     object{"queries": queries, "parameters": []any{}, "requires": object{}, "owner": "admin", "created_at": updated},
		"properties": []any{}, "requires": object{}, "state": state, "owner": "admin", "created_at": updated})
}

// savedSearch returns a search in the messages of logship, with a time line above.
func savedSearch(title, description, q string, fields ...string) object {
	return view("search", "1", title, description, []page{{title: title, query: q, stream: stream, widgets: []widget{
		{title: "Over time", stream: stream, kind: "bar", rows: []string{"timestamp"}, x: 1, y: 1, width: 12, height: 2},
		{title: "Messages", stream: stream, fields: fields, x: 1, y: 3, width: 12, height: 6},
	}}})
}

// event returns an alert for a count over minutes; compare is ">" or "<".
func event(title, description, q, from, compare string, than, minutes int, by ...string) object {
	if by == nil {
		by = []string{}
	}
	return entity("event_definition", "1", title, object{
		"title": val(title), "description": val(description), "priority": val(2), "alert": val(true), "is_scheduled": val(true),
		"config": object{"type": "aggregation-v1", "query": val(q), "filters": []any{}, "streams": []string{streamID(from)}, "group_by": by,
			"series": []object{{"type": "count", "id": "count()", "field": nil}},
			"conditions": object{"expression": object{"expr": compare, "left": object{"expr": "number-ref", "ref": "count()"},
				"right": object{"expr": "number", "value": float64(than)}}},
			"search_within_ms": minutes * 60_000, "execute_every_ms": 60_000, "use_cron_scheduling": false, "event_limit": 100},
		"field_spec": object{}, "key_spec": []any{}, "notifications": []any{},
		"notification_settings": object{"grace_period_ms": 600_000, "backlog_size": 5},
		"storage":               []object{{"type": "persist-to-streams-v1", "streams": []string{"000000000000000000000002"}}}}) // Graylog's "All events"
}

// dashboard returns the dashboard: what services say, and how shipping goes.
func dashboard() object {
	return view("dashboard", "2", "logship", "What services say, and what is missing of it.", []page{
		{title: "Services", widgets: []widget{
			{title: "Messages by level", stream: stream, kind: "bar", rows: []string{"timestamp"}, columns: []string{"level"}, x: 1, y: 1, width: 12, height: 4},
			{title: "Errors by service", query: "level:<=3", stream: stream, kind: "table", rows: []string{"service_name"}, x: 1, y: 5, width: 4, height: 5},
			{title: "Loudest services", stream: stream, kind: "table", rows: []string{"service_name"}, x: 5, y: 5, width: 4, height: 5},
			{title: "Loudest machines", stream: stream, kind: "table", rows: []string{"source"}, x: 9, y: 5, width: 4, height: 5},
			{title: "Latest errors", query: "level:<=3", stream: stream, fields: []string{"timestamp", "source", "service_name", "message"}, x: 1, y: 10, width: 12, height: 6},
		}},
		{title: "Shipping", widgets: []widget{
			{title: "Missing lines", stream: gaps, kind: "numeric", series: "sum", field: "gap_entries", x: 1, y: 1, width: 4, height: 3},
			{title: "Gaps by reason", stream: gaps, kind: "table", rows: []string{"gap_reason"}, x: 5, y: 1, width: 4, height: 3},
			{title: "Gaps by machine", stream: gaps, kind: "table", rows: []string{"source"}, x: 9, y: 1, width: 4, height: 3},
			{title: "Broken lines by service", query: "_exists_:parse_error", stream: stream, kind: "table", rows: []string{"service_name"}, x: 1, y: 4, width: 6, height: 4},
			{title: "Suppressed by a limit", query: "_exists_:suppressed_messages", stream: stream, kind: "table", rows: []string{"service_name"}, series: "sum", field: "suppressed_messages", x: 7, y: 4, width: 6, height: 4},
			{title: "Machines, and when each was last heard", stream: stream, kind: "table", rows: []string{"source"}, series: "latest", field: "timestamp", x: 1, y: 8, width: 12, height: 5},
		}},
	})
}

// Pack returns the content pack as indented JSON with a line end. It is the same each
// time. The error is that of encoding/json.
func Pack() ([]byte, error) {
	entities := []object{
		entity("input", "1", "logship", object{"title": val("logship"), "type": val("org.graylog2.inputs.gelf.tcp.GELFTCPInput"), "global": val(true),
			"static_fields": object{}, "extractors": []any{}, "configuration": object{
				"bind_address": val("0.0.0.0"), "port": val(12201), "recv_buffer_size": val(1 << 20), "number_worker_threads": val(4),
				"use_null_delimiter": val(true), "max_message_size": val(2 << 20), "decompress_size_limit": val(8 << 20),
				"tcp_keepalive": val(true), "tls_enable": val(false), "tls_cert_file": val(""), "tls_key_file": val(""), "tls_key_password": val(""),
				"tls_client_auth": val("disabled"), "tls_client_auth_cert_file": val(""), "charset_name": val("UTF-8"), "override_source": val("")}}),
		newStream(stream, "Everything that logship ships: only that has event_id.", "event_id"),
		newStream(gaps, "Messages about lines that could not be read or kept.", "gap_reason"),
		savedSearch("logship: errors", "Errors of all services.", "level:<=3", "timestamp", "source", "service_name", "message"),
		savedSearch("logship: broken lines", "Lines whose JSON was cut or broken.", "_exists_:parse_error", "timestamp", "source", "service_name", "parse_error", "message"),
		savedSearch("logship: gaps", "What is missing, and why.", "_exists_:gap_reason", "timestamp", "source", "gap_reason", "gap_entries", "message"),
		dashboard(),
		event("logship: a service logs many errors", "More than 50 errors of one service in 5 minutes.", "level:<=3", stream, ">", 50, 5, "service_name"),
		event("logship: lines are missing", "logship told of lines that it could not read or keep.", "_exists_:gap_reason", gaps, ">", 0, 5, "source", "gap_reason"),
		event("logship: nothing arrives", "No machine has sent anything for 10 minutes.", "", stream, "<", 1, 10),
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(object{"v": "1", "id": id("pack"), "rev": 1, "name": "logship", "summary": "Input, streams, searches, dashboard and alerts for logship",
		"description": "See docs/graylog.md of logship.", "vendor": "logship", "url": "", "parameters": []any{}, "entities": entities})
	return b.Bytes(), err
}
