package probe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"sidecar/internal/health"
)

// What is read of a body's tree.
const (
	maxDepth = 8   // levels of children
	maxNames = 4   // children that are named in a text
	maxWord  = 40  // bytes of a word that can be a state
	maxPlain = 256 // bytes of a plain body that can be a state
)

// errNoWord is what is wrong with a body that says nothing about health.
var errNoWord = errors.New("it says nothing about health")

// said is what a body says about the health of its sender.
type said struct {
	state health.State
	text  string
}

// format is a way to tell health in a body.
type format struct {
	name string
	// words are the states by word, as normal writes them; nil: all that are known.
	words map[string]health.State
	// children are the keys of objects or lists with the state of parts.
	children []string
	plain    bool // a body of text is looked at
	json     bool // a body of JSON is looked at
}

// formats are the named formats. Sources: @nestjs/terminus and @godaddy/terminus;
// Spring Boot Actuator, "Health Information"; draft-inadarei-api-health-check-06;
// ASP.NET Core "Health checks" with its plain and its UI writer.
func formats() map[string]format {
	all := []string{"components", "details", "checks", "info", "error", "entries", "results", "services", "dependencies"}
	return map[string]format{
		"auto": {name: "auto", children: all, plain: true, json: true},
		"terminus": {name: "terminus", json: true, children: []string{"details", "info", "error"}, words: map[string]health.State{
			"ok": health.Pass, "up": health.Pass, "error": health.Fail, "down": health.Fail, "shutting_down": health.Warn}},
		"spring": {name: "spring", json: true, children: []string{"components", "details"}, words: map[string]health.State{
			"up": health.Pass, "down": health.Fail, "out_of_service": health.Fail, "unknown": health.Unknown}},
		"ietf": {name: "ietf", json: true, children: []string{"checks"}, words: map[string]health.State{
			"pass": health.Pass, "ok": health.Pass, "up": health.Pass, "warn": health.Warn,
			"fail": health.Fail, "error": health.Fail, "down": health.Fail}},
		"aspnet": {name: "aspnet", json: true, plain: true, children: []string{"entries", "results", "checks"}, words: map[string]health.State{
			"healthy": health.Pass, "degraded": health.Warn, "unhealthy": health.Fail}},
		"plain": {name: "plain", plain: true},
	}
}

// word returns the state that a word stands for in any format.
func word(s string) (health.State, bool) {
	switch normal(s) {
	case "ok", "pass", "passed", "passing", "up", "healthy", "alive", "live", "ready", "available", "green", "success",
		"pong", "true", "running", "serving", "operational":
		return health.Pass, true
	case "warn", "warning", "degraded", "yellow", "partial", "partially_available", "shutting_down", "stopping", "draining", "maintenance":
		return health.Warn, true
	case "fail", "failed", "failing", "failure", "error", "err", "down", "unhealthy", "out_of_service", "unavailable", "critical",
		"red", "dead", "false", "not_ready", "not_ok", "not_serving", "not_available", "ko":
		return health.Fail, true
	case "starting", "initializing", "initialising", "loading", "booting":
		return health.Starting, true
	case "unknown":
		return health.Unknown, true
	}
	return health.Unknown, false
}

// normal returns a word in the one way in which the tables write it.
func normal(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > maxWord {
		return ""
	}
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' {
			return '_'
		}
		return r
	}, strings.ToLower(s))
}

func (f format) word(s string) (health.State, bool) {
	if f.words == nil {
		return word(s)
	}
	state, ok := f.words[normal(s)]
	return state, ok
}

// read returns what a body says. errNoWord means that it is not about health; other
// errors that it is not what it should be.
func (f format) read(contentType string, body []byte, children health.State) (said, error) {
	trimmed := bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")))
	isJSON := strings.Contains(contentType, "json") || len(trimmed) > 0 && (trimmed[0] == '{' || trimmed[0] == '[')
	switch {
	case len(trimmed) == 0:
		return said{}, errNoWord
	case isJSON && f.json:
		root, err := decodeJSON(trimmed)
		if err != nil {
			return said{}, fmt.Errorf("broken JSON: %w", err)
		}
		return f.tree(root, children)
	case !isJSON && f.plain:
		return f.text(trimmed)
	}
	return said{}, errNoWord
}

// text reads a plain body: one of the words, or a first one of them and more.
func (f format) text(body []byte) (said, error) {
	s := string(body)
	if len(s) > maxPlain || strings.HasPrefix(s, "<") {
		return said{}, errNoWord
	}
	state, ok := f.word(s)
	if !ok {
		first := strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(" \t\r\n:,;.!", r) })
		if len(first) > 0 {
			state, ok = f.word(first[0])
		}
	}
	if !ok {
		return said{}, errNoWord
	}
	return said{state, fmt.Sprintf("says %q", cutText(s, 64))}, nil
}

// decodeJSON decodes one document and demands that nothing follows.
func decodeJSON(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var root any
	if err := d.Decode(&root); err != nil {
		var syntax *json.SyntaxError
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			return nil, errors.New("it ends too early")
		}
		if errors.As(err, &syntax) {
			return nil, fmt.Errorf("at byte %d", syntax.Offset)
		}
		return nil, errors.New("it is not understood")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more follows after its end")
	}
	return root, nil
}

// tree reads a document. children is the state that a part which is down gives to a
// whole that says it is well.
func (f format) tree(root any, children health.State) (said, error) {
	object, ok := root.(map[string]any)
	if !ok {
		if s, isText := root.(string); isText {
			return f.text([]byte(s))
		}
		return said{}, errNoWord
	}
	state, ok, text := f.own(object)
	if !ok {
		return said{}, errNoWord
	}
	var p parts
	f.collect(object, "", 0, &p)
	if detail, isText := firstText(object, "output", "message", "error", "description"); isText && state != health.Pass {
		text += ": " + detail
	}
	if worst, names := p.worst(); worst != health.Pass {
		text += "; " + worst.String() + ": " + names
		switch {
		case state != health.Pass: // the whole has thought about its parts
		case worst == health.Fail:
			state = children
		case children != health.Pass:
			state = health.Warn
		}
	}
	return said{state, text}, nil
}

// own returns what an object says about itself.
func (f format) own(object map[string]any) (health.State, bool, string) {
	for _, key := range []string{"status", "Status", "s", "health", "healthy", "state", "ok"} {
		v, has := object[key]
		if !has {
			continue
		}
		switch v := v.(type) {
		case string:
			if state, ok := f.word(v); ok {
				return state, true, fmt.Sprintf("says %s %q", key, cutText(v, maxWord))
			}
		case bool:
			if state, ok := f.word(strconv.FormatBool(v)); ok {
				return state, true, fmt.Sprintf("says %s %t", key, v)
			}
		case json.Number: // {"status": 503}
			if n, err := v.Int64(); err == nil && n >= 400 && n < 600 && f.words == nil {
				return health.Fail, true, fmt.Sprintf("says %s %d", key, n)
			}
		case map[string]any: // {"status": {"code": "UP"}}, Spring Boot 1 and others
			if code, isText := v["code"].(string); isText {
				if state, ok := f.word(code); ok {
					return state, true, fmt.Sprintf("says %s.code %q", key, cutText(code, maxWord))
				}
			}
		}
	}
	return health.Unknown, false, ""
}

func firstText(object map[string]any, keys ...string) (string, bool) {
	for _, key := range keys {
		if s, ok := object[key].(string); ok && s != "" {
			return cutText(s, 100), true
		}
	}
	return "", false
}

// parts are the names of parts that are not well, by what they are.
type parts struct{ failed, warned []string }

func (p *parts) add(state health.State, name string) {
	switch state {
	case health.Fail:
		p.failed = append(p.failed, name)
	case health.Warn, health.Starting:
		p.warned = append(p.warned, name)
	}
}

// worst returns the worst state of the parts and who has it.
func (p *parts) worst() (health.State, string) {
	state, names := health.Fail, p.failed
	if len(names) == 0 {
		state, names = health.Warn, p.warned
	}
	if len(names) == 0 {
		return health.Pass, ""
	}
	slices.Sort(names)
	names = slices.Compact(names) // Terminus tells a part that is down twice
	if len(names) > maxNames {
		names = append(slices.Clone(names[:maxNames]), fmt.Sprintf("and %d more", len(names)-maxNames))
	}
	return state, strings.Join(names, ", ")
}

// collect adds the parts below object. A list of parts is that of the IETF draft
// ("checks": {"db:time": [{…}]}) or of MicroProfile ("checks": [{"name": …}]).
func (f format) collect(object map[string]any, path string, depth int, p *parts) {
	if depth >= maxDepth {
		return
	}
	for _, key := range f.children {
		switch v := object[key].(type) {
		case map[string]any:
			for _, name := range slices.Sorted(maps.Keys(v)) {
				f.part(v[name], join(path, name), key == "checks" || key == "services" || key == "dependencies", depth, p)
			}
		case []any:
			for i, item := range v {
				name := strconv.Itoa(i)
				if o, ok := item.(map[string]any); ok {
					if s, has := firstText(o, "name", "id"); has {
						name = s
					}
				}
				f.part(item, join(path, name), false, depth, p)
			}
		}
	}
}

// part adds one part, and what is below it. bare says that a mere word is a state.
func (f format) part(v any, path string, bare bool, depth int, p *parts) {
	switch v := v.(type) {
	case string:
		if state, ok := f.word(v); ok && bare {
			p.add(state, path)
		}
	case map[string]any:
		if state, ok, _ := f.own(v); ok {
			p.add(state, path)
		}
		f.collect(v, path, depth+1, p)
	case []any:
		for _, item := range v {
			if _, list := item.([]any); !list {
				f.part(item, path, bare, depth, p)
			}
		}
	}
}

func join(path, name string) string {
	name = cutText(name, 40)
	if path == "" || len(path) > 100 {
		return name
	}
	return path + "/" + name
}
