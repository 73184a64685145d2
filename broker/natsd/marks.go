package natsd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// markFile holds the boot in which the data folder is open; it does not exist
// while the folder is closed.
const markFile = "open-in-boot"

// bootIDFile is different after each start of the machine (Linux, random(4)).
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// openMarks records that the folder is open and reports whether it was closed, and
// whether its contents can be trusted: it was, or the process that had it died while
// the machine went on, so that the kernel kept what was written.
func openMarks(dir string) (closed, trusted bool, err error) {
	boot := bootID()
	path := filepath.Join(dir, markFile)
	before, err := os.ReadFile(path) //nolint:gosec // the operator's own data folder
	switch {
	case errors.Is(err, fs.ErrNotExist):
		closed, trusted = true, true
	case err != nil:
		return false, false, fmt.Errorf("read the mark of the data folder: %w", err)
	default:
		trusted = boot != "" && strings.TrimSpace(string(before)) == boot
	}
	if err := writeMark(path, boot+"\n", string(before)); err != nil {
		return false, false, fmt.Errorf("mark the data folder as open: %w", err)
	}
	return closed, trusted, nil
}

// writeMark writes what the mark is to say, all of it or nothing: a mark that a
// full disk has cut would make all positions void at the next start.
func writeMark(path, text, before string) error {
	if text == before {
		return nil
	}
	next := path + ".new"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	return os.Rename(next, path)
}

// bootID is "" on systems without one; there every unclean end counts as a
// power cut.
func bootID() string {
	id, err := os.ReadFile(bootIDFile)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

func markClosed(dir string) error {
	if err := os.Remove(filepath.Join(dir, markFile)); err != nil {
		return fmt.Errorf("mark the data folder as closed: %w", err)
	}
	return nil
}
