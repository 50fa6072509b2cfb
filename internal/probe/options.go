package probe

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"sidecar/internal/settings"
)

// options are the named values of a target. The getters remember what is wrong, so
// that a check can take all it needs and ask once, by finish.
type options struct {
	values map[string]string
	asked  map[string]bool
	err    error // the first one
}

// parseOptions reads "name=value&name=value" and adds extra, which may not repeat a
// name. A '+' is a plus: these are not forms.
func parseOptions(fragment string, extra map[string]string) (*options, error) {
	o := &options{values: maps.Clone(extra), asked: map[string]bool{}}
	if o.values == nil {
		o.values = map[string]string{}
	}
	for part := range strings.SplitSeq(fragment, "&") {
		if part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		name, err1 := url.PathUnescape(name)
		value, err2 := url.PathUnescape(value)
		if err := errors.Join(err1, err2); err != nil || !ok {
			return nil, fmt.Errorf("%w: want name=value", ErrOption)
		}
		if _, twice := o.values[name]; twice {
			return nil, fmt.Errorf("%w %q: given twice", ErrOption, cutText(name, 64))
		}
		o.values[name] = value
	}
	return o, nil
}

// canonical returns all options, in the order of their names.
func (o *options) canonical() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(o.values)) {
		fmt.Fprintf(&b, "%s=%s&", url.PathEscape(name), url.PathEscape(o.values[name]))
	}
	return strings.TrimSuffix(b.String(), "&")
}

// bad notes that the value of an option is of no use.
func (o *options) bad(name string, err error) {
	if o.err == nil {
		o.err = fmt.Errorf("%w %q: %w", ErrOption, name, err)
	}
}

// finish returns the first thing that was wrong, options that nobody asked for
// included.
func (o *options) finish() error {
	if o.err != nil {
		return o.err
	}
	for _, name := range slices.Sorted(maps.Keys(o.values)) {
		if !o.asked[name] {
			return fmt.Errorf("%w %q: there are %s", ErrOption, cutText(name, 64), strings.Join(slices.Sorted(maps.Keys(o.asked)), ", "))
		}
	}
	return nil
}

func (o *options) has(name string) bool {
	o.asked[name] = true
	_, ok := o.values[name]
	return ok
}

func (o *options) text(name, def string) string {
	if !o.has(name) {
		return def
	}
	return o.values[name]
}

// list returns a value that is separated by commas.
func (o *options) list(name, def string) []string {
	var words []string
	for word := range strings.SplitSeq(o.text(name, def), ",") {
		if word = strings.TrimSpace(word); word != "" {
			words = append(words, word)
		}
	}
	return words
}

func (o *options) oneOf(name, def string, choices ...string) string {
	v := o.text(name, def)
	if !slices.Contains(choices, v) {
		o.bad(name, fmt.Errorf("want one of %s, found %q", strings.Join(choices, ", "), cutText(v, 64)))
	}
	return v
}

func (o *options) bool(name string, def bool) bool {
	if !o.has(name) {
		return def
	}
	switch strings.ToLower(o.values[name]) {
	case "yes", "true", "on", "1":
		return true
	case "no", "false", "off", "0":
		return false
	}
	o.bad(name, fmt.Errorf("want yes or no, found %q", cutText(o.values[name], 64)))
	return def
}

func (o *options) duration(name string, def time.Duration) time.Duration {
	if !o.has(name) {
		return def
	}
	var d settings.Duration
	if err := d.UnmarshalText([]byte(o.values[name])); err != nil {
		o.bad(name, err)
		return def
	}
	return time.Duration(d)
}

func (o *options) size(name string, def int64) int64 {
	if !o.has(name) {
		return def
	}
	var s settings.Size
	if err := s.UnmarshalText([]byte(o.values[name])); err != nil {
		o.bad(name, err)
		return def
	}
	return int64(s)
}

// percent returns a number from 0 to 100, written with or without '%'.
func (o *options) percent(name string, def float64) float64 {
	if !o.has(name) {
		return def
	}
	v, err := strconv.ParseFloat(strings.TrimSuffix(o.values[name], "%"), 64)
	if err != nil || !(v >= 0 && v <= 100) {
		o.bad(name, fmt.Errorf("want a percentage from 0 to 100, found %q", cutText(o.values[name], 64)))
		return def
	}
	return v
}

// secret returns a reference to a secret; the value itself is read when it is needed.
func (o *options) secret(name string) settings.Secret {
	var s settings.Secret
	if o.has(name) {
		if err := s.UnmarshalText([]byte(o.values[name])); err != nil {
			o.bad(name, err)
			// What is here may be the secret itself; it must not reach a Key.
			o.values[name] = ""
		}
	}
	return s
}

// prefixed returns the options whose names begin with prefix, without it.
func (o *options) prefixed(prefix string) map[string]string {
	found := map[string]string{}
	for name, value := range o.values {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			o.asked[name] = true
			found[rest] = value
		}
	}
	return found
}
