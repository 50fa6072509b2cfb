package gelf

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode"
)

// javaTrim removes characters up to U+0020 from both ends, as String.trim.
func javaTrim(s string) string {
	return strings.TrimFunc(s, func(r rune) bool { return r <= ' ' })
}

// javaBlank reports whether all characters are whitespace for Character.isWhitespace:
// other control characters and the three no-break spaces are not.
func javaBlank(s string) bool {
	for _, r := range s {
		switch {
		case r >= 0x09 && r <= 0x0d, r >= 0x1c && r <= 0x1f:
		case r == 0xa0 || r == 0x2007 || r == 0x202f:
			return false
		case !unicode.Is(unicode.Z, r):
			return false
		}
	}
	return true
}

// javaDouble prints f as Double.toString: digits with a fraction from 1e-3 to
// below 1e7, else a computerized scientific notation.
func javaDouble(f float64) string {
	switch a := math.Abs(f); {
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	case a == 0 || a >= 1e-3 && a < 1e7:
		s := strconv.FormatFloat(f, 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, 64), "e")
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	e, _ := strconv.Atoi(exponent) // always a number in this format
	return mantissa + "E" + strconv.Itoa(e)
}

// javaParseDouble reads s as Double.parseDouble: trimmed, decimal or
// hexadecimal with a binary exponent, optionally with a type suffix, or NaN or
// Infinity in exactly this case.
func javaParseDouble(s string) (float64, bool) {
	s = javaTrim(s)
	unsigned := strings.TrimLeft(s, "+-")
	switch {
	case len(s)-len(unsigned) > 1 || unsigned == "":
		return 0, false
	case unsigned == "NaN":
		return math.NaN(), true
	case unsigned == "Infinity":
		return math.Inf(1 - 2*strings.Count(s, "-")), true
	case unsigned[0] != '.' && (unsigned[0] < '0' || unsigned[0] > '9') || strings.Contains(s, "_"):
		return 0, false
	}
	hexadecimal := len(unsigned) > 1 && unsigned[1]|0x20 == 'x'
	if last := s[len(s)-1] | 0x20; last == 'd' || last == 'f' && !hexadecimal || hexadecimal && last == 'f' && strings.ContainsAny(s, "pP") {
		s = s[:len(s)-1]
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, false
	}
	return f, true
}

// javaRound is Math.round: to the next integer, halves up, saturating.
func javaRound(f float64) int64 { return javaLong(math.Floor(f + 0.5)) }

// javaLong is the cast from double to long: truncating and saturating, NaN to 0.
func javaLong(f float64) int64 {
	switch {
	case f != f:
		return 0
	case f >= math.MaxInt64:
		return math.MaxInt64
	case f <= math.MinInt64:
		return math.MinInt64
	}
	return int64(f)
}

// javaInteger is the cast from double to int (bits 32) or long (bits 64).
func javaInteger(f float64, bits int) int64 {
	i := javaLong(f)
	if bits == 32 {
		return min(max(i, math.MinInt32), math.MaxInt32)
	}
	return i
}
