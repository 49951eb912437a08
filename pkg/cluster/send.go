package cluster

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"
)

// discardTimeout bounds the removal of what an unfinished SendDir left on the node.
const discardTimeout = 30 * time.Second

// SendDir makes the folder to on node n hold what the local folder from holds. Nothing is ever overwritten: to must not
// exist. It appears whole or not at all: the files are unpacked beside it under a name that begins with a dot, synced, and
// renamed. The folder gets the mode 0700, files keep theirs; only folders and regular files are sent.
func SendDir(ctx context.Context, n Node, from, to string) error {
	if err := Absent(ctx, n, to); err != nil {
		return err
	}
	part := path.Join(path.Dir(to), "."+path.Base(to)+".part")
	if err := send(ctx, n, from, part); err != nil {
		return errors.Join(fmt.Errorf("sending %s to %s on node %s: %w", from, to, n.Name(), err), discard(ctx, n, part))
	}
	if _, err := Run(ctx, n, "mv", "-T", "--no-clobber", "--", part, to); err != nil {
		return fmt.Errorf("moving the sent folder into place: %w", err)
	}
	if err := Absent(ctx, n, part); err != nil { // mv that declines to overwrite exits 0
		return fmt.Errorf("%s appeared on node %s meanwhile and was left alone; what was sent is in %s", to, n.Name(), part)
	}
	return nil
}

// discard removes a half sent folder, which must not stay, even after the end of ctx: that may be why it is half sent.
func discard(ctx context.Context, n Node, part string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTimeout)
	defer cancel()
	if _, err := Run(ctx, n, "rm", "-rf", "--", part); err != nil {
		return fmt.Errorf("removing the half sent folder: %w; hint: `rm -rf %s` on node %s", err, part, n.Name())
	}
	return nil
}

// Absent returns an error unless path does not exist on n; one that wraps ErrOccupied when it does exist.
func Absent(ctx context.Context, n Node, path string) error {
	_, err := Run(ctx, n, "test", "!", "-e", path)
	var exit *ExitError
	if errors.As(err, &exit) && exit.Code == 1 {
		return fmt.Errorf("%s on node %s %w: it is never overwritten; move it away or name another", path, n.Name(), ErrOccupied)
	}
	return err
}

func send(ctx context.Context, n Node, from, part string) error {
	for _, argv := range [][]string{{"rm", "-rf", "--", part}, {"mkdir", "-p", "-m", "0700", "--", part}} {
		if _, err := Run(ctx, n, argv...); err != nil {
			return err
		}
	}
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := pack(w, from)
		w.CloseWithError(err)
		packed <- err
	}()
	_, err := n.Exec(ctx, Cmd{Argv: []string{"tar", "-x", "-p", "-C", part}, Stdin: r})
	r.CloseWithError(io.ErrClosedPipe) // lets the packer go when the other side gave up
	if packErr := <-packed; packErr != nil && err == nil {
		err = packErr
	}
	if err != nil {
		return err
	}
	_, err = Run(ctx, n, "sync", "-f", part)
	return err
}

func pack(w io.Writer, from string) error {
	tw := tar.NewWriter(w)
	err := filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == from {
			return err
		}
		return packOne(tw, from, name, d)
	})
	if err != nil {
		return err
	}
	return tw.Close()
}

func packOne(tw *tar.Writer, from, name string, d fs.DirEntry) error {
	if !d.IsDir() && !d.Type().IsRegular() {
		return fmt.Errorf("%s is neither a folder nor a regular file", name)
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	h, err := tar.FileInfoHeader(info, "")
	if err != nil {
		return err
	}
	if h.Name, err = filepath.Rel(from, name); err != nil {
		return err
	}
	h.Name = filepath.ToSlash(h.Name)
	h.Uid, h.Gid, h.Uname, h.Gname = 0, 0, "root", "root"
	if err := tw.WriteHeader(h); err != nil || d.IsDir() {
		return err
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(tw, f)
	return err
}
