package probe

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sidecar/internal/health"
)

// jsonPath is a place in a document, and what its value means.
type jsonPath struct {
	steps      []string // keys and, as digits, places in lists
	pass, warn []string // values; without any, the usual words
}

// parsePath reads "$.data.nodes[0].state" or "data.nodes.0.state". A key with dots is
// written "['a.b']".
func parsePath(s string) ([]string, error) {
	rest := strings.TrimPrefix(s, "$")
	var steps []string
	for rest != "" {
		switch {
		case strings.HasPrefix(rest, "['"):
			key, after, ok := strings.Cut(rest[2:], "']")
			if !ok {
				return nil, errors.New("a ['key'] is not closed")
			}
			steps, rest = append(steps, key), after
		case rest[0] == '[':
			index, after, ok := strings.Cut(rest[1:], "]")
			if _, err := strconv.ParseUint(index, 10, 31); !ok || err != nil {
				return nil, errors.New("want a number between [ and ]")
			}
			steps, rest = append(steps, index), after
		default:
			rest = strings.TrimPrefix(rest, ".")
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			if end == 0 {
				return nil, errors.New("a key is missing")
			}
			steps, rest = append(steps, rest[:end]), rest[end:]
		}
	}
	if len(steps) == 0 {
		return nil, errors.New("want a path such as $.data.state")
	}
	return steps, nil
}

// read returns what the value at the path says. A document without it is an error.
func (j *jsonPath) read(body []byte) (said, error) {
	v, err := decodeJSON(body)
	if err != nil {
		return said{}, fmt.Errorf("broken JSON: %w", err)
	}
	for _, step := range j.steps {
		switch at := v.(type) {
		case map[string]any:
			next, ok := at[step]
			if !ok {
				return said{}, fmt.Errorf("no %q in it", cutText(step, 40))
			}
			v = next
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(at) || i < 0 {
				return said{}, fmt.Errorf("no place %q in its list", cutText(step, 40))
			}
			v = at[i]
		default:
			return said{}, fmt.Errorf("nothing below %q", cutText(step, 40))
		}
	}
	var text string
	switch v := v.(type) {
	case string:
		text = v
	case json.Number:
		text = v.String()
	case bool:
		text = strconv.FormatBool(v)
	case nil:
		text = "null"
	default:
		return said{}, errors.New("what the path leads to is not a value")
	}
	return said{j.state(text), fmt.Sprintf("%s is %q", strings.Join(j.steps, "."), cutText(text, 64))}, nil
}

func (j *jsonPath) state(value string) health.State {
	switch {
	case slices.Contains(j.pass, value):
		return health.Pass
	case slices.Contains(j.warn, value):
		return health.Warn
	case len(j.pass) > 0:
		return health.Fail
	}
	if state, ok := word(value); ok {
		return state
	}
	return health.Fail
}
