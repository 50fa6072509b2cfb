package main

import (
	"fmt"
	"math"
	"os"
	"strings"
)

// curvePath is where the plot goes.
const curvePath = "docs/images/scrape.svg"

// curve is a line of the plot.
type curve struct {
	name, color string
	points      [][2]float64 // of the axis, and milliseconds of processor time
}

// panel is one half of the plot.
type panel struct {
	title, axis string
	curves      []curve
}

// scrapeCurves measures how the cost of a scrape grows, prints a table and draws it.
func scrapeCurves(dir, address string) error {
	var series, count []targets
	for _, n := range []int{1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000} {
		series = append(series, targets{10, n / 10})
	}
	for _, n := range []int{1, 2, 5, 10, 20, 50, 100, 200, 500} {
		count = append(count, targets{n, 200})
	}
	bySeries, err := scrapeCurve(dir, address, "series of 10 targets", series, func(t targets) int { return t.count * t.series })
	if err != nil {
		return err
	}
	byTargets, err := scrapeCurve(dir, address, "targets of 200 series each", count, func(t targets) int { return t.count })
	if err != nil {
		return err
	}
	return os.WriteFile(curvePath, drawPanels(bySeries, byTargets), 0o644)
}

func scrapeCurve(dir, address, axis string, all []targets, x func(targets) int) (panel, error) {
	p := panel{title: "CPU per scrape, ms", axis: axis, curves: []curve{{name: "identity", color: "#2563eb"}, {name: "gzip", color: "#d97706"}}}
	fmt.Printf("| %s | CPU per scrape | latency | with gzip: CPU | latency | peak RSS |\n|--:|--:|--:|--:|--:|--:|\n", axis)
	for _, t := range all {
		fmt.Fprintf(os.Stderr, "bench: %d targets of %d series\n", t.count, t.series)
		var s [2]sample
		for i, header := range []string{"", "Accept-Encoding: gzip\r\n"} {
			var err error
			if s[i], err = scrapeHealthd(dir, address, t, "", header); err != nil {
				return panel{}, err
			}
			p.curves[i].points = append(p.curves[i].points, [2]float64{float64(x(t)), 1e3 * s[i].cpu.Seconds()})
		}
		ms := func(seconds float64) string { return fmt.Sprintf("%.3g ms", 1e3*seconds) }
		fmt.Printf("| %d | %s | %s | %s | %s | %.0f MB |\n", x(t), ms(s[0].cpu.Seconds()), ms(s[0].wall.Seconds()), ms(s[1].cpu.Seconds()), ms(s[1].wall.Seconds()), float64(max(s[0].rss, s[1].rss))/(1<<20))
	}
	fmt.Println()
	return p, nil
}

// The plot, in pixels: each panel with room around it for what its axes say.
const (
	plotWidth, plotHeight = 380, 260
	plotLeft, plotTop     = 56, 36
	plotFoot              = 50
)

// drawPanels returns panels side by side, both axes logarithmic, as SVG.
func drawPanels(panels ...panel) []byte {
	var b strings.Builder
	width := len(panels) * (plotLeft + plotWidth + 24)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d" font-family="system-ui, sans-serif" font-size="12" fill="#333">
<rect width="100%%" height="100%%" fill="#fff"/>
`, width, plotTop+plotHeight+plotFoot)
	for i, p := range panels {
		fmt.Fprintf(&b, `<g transform="translate(%d %d)">`+"\n", i*(plotLeft+plotWidth+24)+plotLeft, plotTop)
		p.draw(&b)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

func (p panel) draw(b *strings.Builder) {
	low, high := [2]float64{math.Inf(1), math.Inf(1)}, [2]float64{}
	for _, c := range p.curves {
		for _, point := range c.points {
			for k, v := range point {
				low[k], high[k] = min(low[k], v), max(high[k], v)
			}
		}
	}
	// Whole decades.
	from := [2]float64{math.Floor(math.Log10(low[0])), math.Floor(math.Log10(low[1]))}
	to := [2]float64{math.Ceil(math.Log10(high[0])), math.Ceil(math.Log10(high[1]))}
	x := func(v float64) float64 { return plotWidth * (math.Log10(v) - from[0]) / (to[0] - from[0]) }
	y := func(v float64) float64 { return plotHeight - plotHeight*(math.Log10(v)-from[1])/(to[1]-from[1]) }
	fmt.Fprintf(b, `<text x="0" y="-14" font-weight="600">%s</text><text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", p.title, plotWidth, plotHeight+40, p.axis)
	for e := from[0]; e <= to[0]; e++ {
		v := math.Pow(10, e)
		fmt.Fprintf(b, `<path d="M%[1]g 0V%[2]d" stroke="#ddd"/><text x="%[1]g" y="%[3]d" text-anchor="middle">%[4]s</text>`+"\n", round1(x(v)), plotHeight, plotHeight+18, short(v))
	}
	for e := from[1]; e <= to[1]; e++ {
		v := math.Pow(10, e)
		fmt.Fprintf(b, `<path d="M0 %[1]gH%[2]d" stroke="#ddd"/><text x="-8" y="%[3]g" text-anchor="end">%[4]s</text>`+"\n", round1(y(v)), plotWidth, round1(y(v)+4), short(v))
	}
	for i, c := range p.curves {
		var path strings.Builder
		for k, point := range c.points {
			fmt.Fprintf(&path, "%c%g %g", "ML"[min(k, 1)], round1(x(point[0])), round1(y(point[1])))
			fmt.Fprintf(b, `<circle cx="%g" cy="%g" r="3" fill="%s"/>`+"\n", round1(x(point[0])), round1(y(point[1])), c.color)
		}
		fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/><text x="14" y="%d" fill="%s" font-weight="600">%s</text>`+"\n", &path, c.color, 20+18*i, c.color, c.name)
	}
}

func round1(v float64) float64 { return math.Round(10*v) / 10 }

// short returns 1000000 as 1M.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%gM", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%gk", v/1e3)
	}
	return fmt.Sprintf("%g", v)
}
