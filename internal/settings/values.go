package settings

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a span of time, never negative, in nanoseconds like
// time.Duration, to which it converts. Its text is that of time.ParseDuration
// with days of 24 hours in front: "10s", "1h30m", "2d", "1d12h", "0".
type Duration time.Duration

const day = 24 * time.Hour

// UnmarshalText sets d to the duration in text and leaves it unchanged on error.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := parseDuration(string(text))
	if err != nil {
		return fmt.Errorf("want %s, found %q", wantDuration, cut(string(text)))
	}
	*d = Duration(v)
	return nil
}

func parseDuration(s string) (time.Duration, error) {
	var v time.Duration
	if days, rest, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 64)
		if err != nil {
			return 0, err
		}
		if n > uint64(math.MaxInt64/day) {
			return 0, errors.New("out of range")
		}
		v, s = time.Duration(n)*day, cmp.Or(rest, "0")
	}
	rest, err := time.ParseDuration(s)
	if err == nil && (rest < 0 || v > math.MaxInt64-rest) {
		err = errors.New("out of range")
	}
	return v + rest, err
}

// String returns the duration as UnmarshalText reads it, without parts that
// are zero: "2d", "1h30m", "0s".
func (d Duration) String() string {
	days, rest := time.Duration(d)/day, time.Duration(d)%day
	s := rest.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	switch {
	case days == 0:
		return s
	case rest == 0:
		return fmt.Sprintf("%dd", days)
	}
	return fmt.Sprintf("%dd%s", days, s)
}

// MarshalText returns String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Size is a number of bytes, never negative. Its text is a whole number with or
// without a unit: "256KiB", "4MiB", "1GB", "65536". KiB, MiB, GiB and TiB are
// powers of 1024; kB, MB, GB and TB powers of 1000; case does not matter.
type Size int64

// unit is a suffix of a Size.
type unit struct {
	name  string
	bytes int64
}

// units returns all units, the ones that String prefers first.
func units() []unit {
	return []unit{
		{"TiB", 1 << 40}, {"TB", 1e12}, {"GiB", 1 << 30}, {"GB", 1e9},
		{"MiB", 1 << 20}, {"MB", 1e6}, {"KiB", 1 << 10}, {"kB", 1e3}, {"B", 1},
	}
}

// UnmarshalText sets s to the size in text and leaves it unchanged on error.
func (s *Size) UnmarshalText(text []byte) error {
	digits := strings.TrimRight(string(text), "kKmMgGtTiIbB ")
	suffix := strings.TrimSpace(string(text[len(digits):]))
	factor := int64(0)
	for _, u := range units() {
		if suffix == "" || strings.EqualFold(suffix, u.name) {
			factor = u.bytes
			if suffix == "" {
				factor = 1
			}
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || factor == 0 || int64(n) > math.MaxInt64/factor {
		return fmt.Errorf("want %s, found %q", wantSize, cut(string(text)))
	}
	*s = Size(int64(n) * factor)
	return nil
}

// String returns the exact size with the unit that leaves the fewest digits, and
// as plain bytes if no unit does better.
func (s Size) String() string {
	digits, name := strconv.FormatInt(int64(s), 10), ""
	for _, u := range units() {
		d := strconv.FormatInt(int64(s)/u.bytes, 10)
		if int64(s)%u.bytes == 0 && len(d) < len(digits) {
			digits, name = d, u.name
		}
	}
	return digits + name
}

// MarshalText returns String.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
