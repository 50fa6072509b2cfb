package statuspage

import (
	"fmt"
	"math"
	"strconv"
	"testing"
)

// luminance is that of WCAG 2.2, "relative luminance".
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	n, err := strconv.ParseUint(hex[1:], 16, 24)
	if err != nil || len(hex) != 7 {
		t.Fatalf("colour %q", hex)
	}
	sum := 0.0
	for i, weight := range []float64{0.0722, 0.7152, 0.2126} { // blue, green, red
		c := float64(n>>(8*i)&255) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}

// contrast is that of WCAG 2.2, "contrast ratio".
func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	high, low := luminance(t, a), luminance(t, b)
	return (max(high, low) + 0.05) / (min(high, low) + 0.05)
}

func TestContrastFormula(t *testing.T) {
	if got := contrast(t, "#000000", "#ffffff"); got != 21 {
		t.Errorf("black on white: %v", got)
	}
	if got := fmt.Sprintf("%.2f", contrast(t, "#767676", "#ffffff")); got != "4.54" {
		t.Errorf("#767676 on white: %v", got)
	}
}

// TestContrast holds every pair of the page to WCAG 2.2 AA: 4.5 for text (1.4.3), 3 for
// what is drawn, and for the focus (1.4.11).
func TestContrast(t *testing.T) {
	type pair struct {
		front, back string
		least       float64
	}
	pairs := []pair{
		{"text", "bg", 4.5}, {"text", "card", 4.5}, {"muted", "bg", 4.5}, {"muted", "card", 4.5}, {"link", "bg", 4.5}, {"link", "card", 4.5},
		{"minor-bar", "card", 3}, {"minor-bar", "bg", 3},
	}
	for _, s := range []string{"pass", "warn", "fail", "maintenance", "unknown"} {
		pairs = append(pairs, pair{s, s + "-tint", 4.5}, pair{s, "card", 4.5}, pair{s, "bg", 3}, pair{s + "-bar", "card", 3}, pair{s + "-bar", "bg", 3})
	}
	for name, p := range map[string]palette{"light": light, "dark": dark} {
		for _, c := range pairs {
			if got := contrast(t, p[c.front], p[c.back]); got < c.least {
				t.Errorf("%s: %s %s on %s %s: %.2f, want %v", name, c.front, p[c.front], c.back, p[c.back], got, c.least)
			}
		}
		if len(p) != len(light) {
			t.Errorf("%s has %d colours, light has %d", name, len(p), len(light))
		}
	}
	for s := range symbols {
		if got := contrast(t, "#ffffff", light[s]); got < 4.5 {
			t.Errorf("badge: white on %s: %.2f", s, got)
		}
	}
	if got := contrast(t, "#ffffff", badgeLabel); got < 4.5 {
		t.Errorf("badge: white on the label: %.2f", got)
	}
}
