package settings

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2/unstable"
)

// applyEnvironment applies step 6: the variables with our prefix, in the order
// of their names, except those that choose files.
func (l *loader) applyEnvironment() {
	for _, name := range slices.Sorted(maps.Keys(l.env)) {
		suffix, ok := strings.CutPrefix(name, l.prefix)
		if !ok || suffix == "CONFIG" || suffix == "CONFIG_DIR" || suffix == "ENV" {
			continue
		}
		keys := strings.Split(strings.ToLower(suffix), "__")
		l.applyRaw(keys, l.env[name], Origin{Layer: Environment, Name: name})
	}
}

// applySet applies one argument of step 7.
func (l *loader) applySet(arg string) {
	at := Origin{Layer: Set}
	key, value, ok := strings.Cut(arg, "=")
	if !ok {
		l.fail(&Error{Origin: at, Err: fmt.Errorf("read argument: want section.key=value, found %q", cut(arg))})
		return
	}
	keys := parseKey(key)
	if keys == nil {
		l.fail(&Error{Origin: at, Err: fmt.Errorf("read argument: want a dotted key such as section.key, found %q", cut(key))})
		return
	}
	l.applyRaw(keys, value, at)
}

// applyRaw sets one key to text that has no type yet.
func (l *loader) applyRaw(keys []string, text string, at Origin) {
	if !utf8.ValidString(text) || !utf8.ValidString(at.Name) {
		l.fail(&Error{Origin: at, Err: errors.New("read key and value: not valid UTF-8")})
		return
	}
	n := &node{kind: rawKind, text: text, origin: at}
	for _, k := range slices.Backward(keys) {
		n = &node{origin: at, table: map[string]*node{k: n}}
	}
	l.decode(n, l.root, "")
}

// parseKey splits a dotted key (TOML 1.1 "Keys") into its parts; nil means that
// it is none.
func parseKey(key string) []string {
	var p unstable.Parser
	p.Reset([]byte(key + "= 0"))
	if strings.Contains(key, "\n") || !p.NextExpression() || p.Expression().Kind != unstable.KeyValue {
		return nil
	}
	var keys []string
	for it := p.Expression().Key(); it.Next(); {
		keys = append(keys, string(it.Node().Data))
	}
	return keys
}
