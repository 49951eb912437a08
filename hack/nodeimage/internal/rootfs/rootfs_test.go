package rootfs

import (
	"os"
	"path/filepath"
	"testing"
)

func TestVersionIsUpstream(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, PackageList), []byte("nginx 1.0-1\nnginx-light 1.22.1-9+deb12u3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := Version(dir, "nginx-light"); err != nil || got != "1.22.1" {
		t.Errorf("Version = %q, %v", got, err)
	}
	if _, err := Version(dir, "light"); err == nil {
		t.Error("a missing package is no error")
	}
	for in, want := range map[string]string{"1:2.3-4": "2.3", "1.1.5+ds1-1+deb12u1": "1.1.5", "20230311": "20230311"} {
		if got := upstream(in); got != want {
			t.Errorf("upstream(%s) = %s, want %s", in, got, want)
		}
	}
}

func TestTrimKeepsCopyrights(t *testing.T) {
	root := t.TempDir()
	for _, file := range []string{"usr/share/doc/p/copyright", "usr/share/doc/p/changelog.gz", "usr/share/man/x", "etc/hostname", "etc/passwd"} {
		path := filepath.Join(root, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := trim(root); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]bool{
		"usr/share/doc/p/copyright": true, "usr/share/doc/p/changelog.gz": false, "usr/share/man/x": false, "etc/hostname": false, "etc/passwd": true,
	} {
		if _, err := os.Stat(filepath.Join(root, file)); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", file, err == nil, want)
		}
	}
}
