package inventory

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// eachField calls each with every field of a protobuf message: its content where it has a length, its number where it is one. The slices are parts of b.
func eachField(b []byte, each func(field protowire.Number, content []byte, number uint64) error) error {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		var content []byte
		var number uint64
		switch kind {
		case protowire.BytesType:
			content, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(b)
		default:
			n = protowire.ConsumeFieldValue(field, kind, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := each(field, content, number); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// envelope is a runtime.Unknown, in which the API server stores what it stores as protobuf (https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding). Its slices are parts of
// the value.
type envelope struct {
	apiVersion, kind, raw, contentEncoding []byte
}

// openEnvelope reads what follows beginsProtobuf.
func openEnvelope(b []byte) (e envelope, err error) {
	err = eachField(b, func(field protowire.Number, content []byte, _ uint64) error {
		switch field {
		case 1:
			return eachField(content, func(field protowire.Number, content []byte, _ uint64) error {
				switch field {
				case 1:
					e.apiVersion = content
				case 2:
					e.kind = content
				}
				return nil
			})
		case 2:
			e.raw = content
		case 3:
			e.contentEncoding = content
		}
		return nil
	})
	switch {
	case err != nil:
		return e, fmt.Errorf("its envelope: %w", err)
	case len(e.apiVersion) == 0 || len(e.kind) == 0:
		return e, errors.New("its envelope names no kind")
	case len(e.contentEncoding) > 0:
		return e, fmt.Errorf("its envelope says that the content is encoded as %q, which no API server does", e.contentEncoding)
	}
	return e, nil
}

// head is what of an object's metadata tells which one it is and what hinders its deletion. Its slices are parts of the value.
type head struct {
	namespace, name, uid []byte
	// deleting says that a deletion was asked for.
	deleting   bool
	finalizers [][]byte
}

// readHead reads the metadata of an object that is stored as protobuf: an ObjectMeta, the first field of almost every type (api.proto in k8s.io/apimachinery/pkg/apis/meta/v1).
func readHead(raw []byte) (h head, err error) {
	err = eachField(raw, func(field protowire.Number, content []byte, _ uint64) error {
		if field != fieldMetadata || content == nil {
			return nil
		}
		return eachField(content, func(field protowire.Number, content []byte, _ uint64) error {
			switch field {
			case 1:
				h.name = content
			case 3:
				h.namespace = content
			case 5:
				h.uid = content
			case 9:
				h.deleting = true
			case 14:
				h.finalizers = append(h.finalizers, content)
			}
			return nil
		})
	})
	return h, err
}
