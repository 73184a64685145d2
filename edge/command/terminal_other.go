//go:build !unix

package command

import "os"

// terminal reports whether somebody looks at a file, or types into it.
func terminal(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
