//go:build linux

package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// table is what the scenarios of a mesh print: rows of figures, each of which was
// measured several times.
type table struct {
	columns []string
	rows    []string
	figures map[string][]float64 // by row and column
}

func (t *table) add(row, column string, figure float64) {
	if t.figures == nil {
		t.figures = make(map[string][]float64)
	}
	if !slices.Contains(t.columns, column) {
		t.columns = append(t.columns, column)
	}
	if !slices.Contains(t.rows, row) {
		t.rows = append(t.rows, row)
	}
	key := row + "\x00" + column
	t.figures[key] = append(t.figures[key], figure)
}

// print writes the table as Markdown.
func (t *table) print(w io.Writer, title string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\n| %s | %s |\n|---|%s\n", title, strings.Join(t.columns, " | "), strings.Repeat("---|", len(t.columns)))
	for _, row := range t.rows {
		fmt.Fprintf(&b, "| %s |", row)
		for _, column := range t.columns {
			fmt.Fprintf(&b, " %s |", spread(t.figures[row+"\x00"+column]))
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// spread is the median of several measurements, and the least and the most of them.
func spread(figures []float64) string {
	if len(figures) == 0 {
		return ""
	}
	sorted := slices.Sorted(slices.Values(figures))
	median := short(sorted[len(sorted)/2])
	if least, most := short(sorted[0]), short(sorted[len(sorted)-1]); least != most {
		return fmt.Sprintf("%s (%s–%s)", median, least, most)
	}
	return median
}

// short is a number with as many digits as are worth something.
func short(f float64) string {
	switch a := math.Abs(f); {
	case a >= 100:
		return fmt.Sprintf("%.0f", f)
	case a >= 10:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.2f", f)
}
