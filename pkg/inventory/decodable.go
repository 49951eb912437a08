package inventory

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// Decoder says of values that etcd holds whether Kubernetes can read them. It keeps what it needs from one to the next, and must not be used by two goroutines at once. Its zero value is ready to use.
type Decoder struct {
	// objects are those that protobuf was read into last, by kind; nil for a kind that this build doesn't know.
	objects map[schema.GroupVersionKind]resettable
}

type resettable interface {
	message
	Reset()
}

// maxTyped is up to where a value is read into its type, in bytes. An API server takes no request of more than 3 MiB, and etcd none of more than 1.5 MiB unless told to; what is read takes many times the memory of a
// value that was made for it.
const maxTyped = 2 << 20

// Decodable returns nil for a value that an API server can read, as far as this build can tell, and for one that isn't Kubernetes' business.
//
//   - One that begins as the built-in types do (protobuf) is read as its type. Of a type that this build doesn't know, the envelope and the metadata are read, and that the rest is protobuf.
//   - One in JSON or CBOR, as custom resources are, or in YAML, which an API server stores when it is told to, must be an object that names its kind. What it means is up to its definition.
//   - An encrypted one must say with which provider and key; nothing else can be seen of it.
//   - Below /registry/, where API servers keep what they store unless told otherwise by --etcd-prefix, there is nothing else. Under other keys anything may be: compact_rev_key, by which API servers
//     take turns to compact, and what other programs keep in the same etcd.
func (d *Decoder) Decodable(key string, value []byte) error {
	switch {
	case bytes.HasPrefix(value, []byte(beginsEncrypted)):
		if encryptionOf(value) == "" {
			return errors.New("it is encrypted and doesn't say with which provider and key")
		}
		return nil
	case bytes.HasPrefix(value, []byte(beginsProtobuf)):
		return d.protobuf(value[len(beginsProtobuf):])
	case !strings.HasPrefix(key, registry):
		return nil
	case bytes.HasPrefix(value, []byte(beginsCBOR)), bytes.HasPrefix(value, []byte(beginsYAML)), len(value) > 0 && value[0] == '{':
		var o typed
		if err := unmarshalOther(value, &o); err != nil {
			return err
		}
		return o.check()
	case len(value) == 0:
		return errors.New("it is empty")
	default:
		return errors.New("it is neither protobuf, JSON, CBOR, YAML nor encrypted") // what it is instead may be a secret
	}
}

// unmarshalOther reads an object in JSON, YAML or CBOR, the latter as an API server does: within its limits, and with the names of fields as bytes, as which it writes them.
func unmarshalOther(value []byte, into any) error {
	what := "JSON"
	switch {
	case bytes.HasPrefix(value, []byte(beginsCBOR)):
		what = "CBOR"
		var content map[string]any
		if err := direct.Unmarshal(value, &content); err != nil {
			return fmt.Errorf("it begins as CBOR: %w", err)
		}
		var err error
		if value, err = json.Marshal(content); err != nil {
			return fmt.Errorf("it is CBOR, and no object: %w", err)
		}
	case bytes.HasPrefix(value, []byte(beginsYAML)):
		what = "YAML"
		var err error
		if value, err = yaml.YAMLToJSON(value); err != nil {
			return fmt.Errorf("it begins as YAML: %w", err)
		}
	case len(value) == 0 || value[0] != '{':
		return errors.New("it is neither JSON, YAML nor CBOR")
	}
	if err := json.Unmarshal(value, into); err != nil {
		return fmt.Errorf("it begins as %s: %w", what, err)
	}
	return nil
}

// typed is what every object says of itself.
type typed struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
}

func (t typed) check() error {
	if t.APIVersion == "" || t.Kind == "" {
		return errors.New("it is an object that names no kind")
	}
	return nil
}

// protobuf reads what follows beginsProtobuf.
func (d *Decoder) protobuf(b []byte) error {
	e, err := openEnvelope(b)
	if err != nil {
		return err
	}
	o := d.object(schema.FromAPIVersionAndKind(string(e.apiVersion), string(e.kind)))
	if o != nil && len(e.raw) <= maxTyped {
		err := o.Unmarshal(e.raw)
		o.Reset() // it may have been a large one
		if err != nil {
			return fmt.Errorf("it is no %s of %s: %w", e.kind, e.apiVersion, err)
		}
		return nil
	}
	if _, err := readHead(e.raw); err != nil {
		return fmt.Errorf("it is no %s of %s: %w", e.kind, e.apiVersion, err)
	}
	return nil
}

// object returns what a kind is read into; nil for one that this build doesn't know.
func (d *Decoder) object(gvk schema.GroupVersionKind) resettable {
	if o, known := d.objects[gvk]; known {
		return o
	}
	if d.objects == nil {
		d.objects = map[schema.GroupVersionKind]resettable{}
	}
	var o resettable
	if made, err := scheme.Scheme.New(gvk); err == nil {
		o, _ = made.(resettable)
	}
	if len(d.objects) < maxKinds {
		d.objects[gvk] = o
	}
	return o
}

// maxKinds bounds how many kinds are remembered: a file that was made to do harm may name any number.
const maxKinds = 4096
