// Package faults makes disks that fail for tests: full, read-only, gone. What a
// test does to its system it does in a process of its own, and mounts are in a
// name space of their own: both end with the test, also if it panics or is killed.
package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	// childFolder is set in the process that is made for a test: its folder.
	childFolder = "REECHO_TEST_FAULT_DIR"
	// needMounts, if it is set, makes a test fail that cannot mount; else it is
	// skipped. scripts/test sets it wherever the system lets anybody mount.
	needMounts = "REECHO_TEST_MOUNTS"
)

// InChild runs body as the test t in a process of its own, for faults that a
// process has for itself. dir is empty, can be passed through by all users, and
// is removed by the parent.
func InChild(t *testing.T, body func(t *testing.T, dir string)) {
	t.Helper()
	inChild(t, &syscall.SysProcAttr{}, body)
}

// WithMounts is InChild for a body that calls Mount. Root is not needed where the
// system lets users have name spaces.
func WithMounts(t *testing.T, body func(t *testing.T, dir string)) {
	t.Helper()
	spaces := &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		spaces.Unshareflags |= unix.CLONE_NEWUSER
		spaces.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		spaces.GidMappings = []syscall.SysProcIDMap{{HostID: gid, Size: 1}}
	}
	inChild(t, spaces, body)
}

func inChild(t *testing.T, attributes *syscall.SysProcAttr, body func(t *testing.T, dir string)) {
	t.Helper()
	if dir := os.Getenv(childFolder); dir != "" {
		body(t, dir)
		return
	}
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil { //nolint:gosec // the child may become another user
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v") //nolint:gosec // this program
	child.Env = append(os.Environ(), childFolder+"="+dir)
	child.SysProcAttr = attributes
	// The signal is sent when the thread ends that started the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	child.SysProcAttr.Pdeathsig = syscall.SIGKILL
	out, err := child.CombinedOutput()
	switch exit := (*exec.ExitError)(nil); {
	case errors.As(err, &exit):
		t.Errorf("%v:\n%s", err, out)
	case err != nil && attributes.Unshareflags != 0:
		cannotMount(t, err)
	case err != nil:
		t.Fatal(err)
	case regexp.MustCompile(`(?m)^--- SKIP`).Match(out):
		t.Skipf("\n%s", out)
	}
}

func cannotMount(t *testing.T, err error) {
	t.Helper()
	if os.Getenv(needMounts) != "" {
		t.Fatalf("cannot mount a file system: %v", err)
	}
	t.Skipf("cannot mount a file system (%v): run as root", err)
}

// Mount mounts an empty file system of size bytes in memory at dir, which is made
// if it is missing. It lasts as long as the process of WithMounts.
func Mount(t *testing.T, dir string, size int) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("reecho-test", dir, "tmpfs", 0, fmt.Sprint("size=", size)); err != nil {
		cannotMount(t, err)
	}
}

// Resize gives what Mount mounted at dir another size.
func Resize(t *testing.T, dir string, size int) {
	t.Helper()
	if err := unix.Mount("reecho-test", dir, "tmpfs", unix.MS_REMOUNT, fmt.Sprint("size=", size)); err != nil {
		t.Fatal(err)
	}
}

// Cover hides what Mount mounted at dir behind a view of it that is read-only,
// until uncover is called: a file system with files that are open for writing is
// made read-only by the kernel only.
func Cover(t *testing.T, dir string) (uncover func()) {
	t.Helper()
	if err := errors.Join(unix.Mount(dir, dir, "", unix.MS_BIND, ""),
		unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
	}
}

// Fill writes the file ballast into dir until its disk is full.
func Fill(t *testing.T, dir string) (ballast string) {
	t.Helper()
	ballast = filepath.Join(dir, "ballast")
	file, err := os.Create(ballast) //nolint:gosec // a folder of the test
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	block := make([]byte, 4<<10)
	for err == nil {
		_, err = file.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return ballast
}
