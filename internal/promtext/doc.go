// Package promtext makes one page of metrics out of many: it validates the pages of
// targets, puts labels into them, merges them, and sums what workers of one app say.
// It fetches nothing, serves nothing, has no clock, no logger and no files: pages
// and times are arguments, and what is to be kept over a restart is a small document
// that the caller stores.
//
// The formats are the text format 0.0.4 of Prometheus and OpenMetrics 1.0. What is a
// valid line is what Prometheus takes (its package model/textparse); where this
// package is stricter, the reason stands at the branch.
//
//	target := promtext.NewTarget(promtext.Options{App: "shop", Worker: "3"})
//	report, err := target.Read(page, promtext.Text)     // one per target and scrape
//	...
//	summer.Sum(workers)                                 // one per app that sums
//	page, conflicts = merger.Append(page[:0], promtext.Text, targets, summers)
//
// Three parts do the work:
//
//   - A [Target] reads the page of one target. Lines are compared with those of the
//     last page at the same place: what stands before the value is as a rule the same
//     bytes, was validated then, and its labelled form is known (the memo). Where a
//     page does not fit, all of it takes the validating path, which makes the memo
//     anew.
//   - A [Merger] writes the families of all targets, each once and in one piece. It
//     remembers which family of which target goes where until a target changes.
//   - A [Summer] replaces families of the workers of one app by their sum.
//
// In steady state none of them allocates.
//
// Decisions where the formats leave a choice:
//
//   - Names in quotes ({"my.metric"}, which Prometheus knows since version 3) are
//     refused: a Prometheus before it loses the whole page for one of them.
//   - Timestamps are removed. They would keep Prometheus from seeing that a series
//     has ended.
//   - A last line without its newline is taken if it is a valid line, as Prometheus
//     does, and counted: it may have been cut in its value.
//   - The labels app and worker belong to this package, whether a target has a worker
//     or not; a target's own become exported_app and exported_worker. Where it has
//     these too, the line is refused: a further exported_ for every hop, as
//     aggregators that read each other make them, helps nobody.
package promtext
