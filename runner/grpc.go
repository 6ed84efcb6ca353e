package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// One call of grpc.health.v1.Health/Check over plaintext HTTP/2: the smallest client that is still correct. Request
// headers are HPACK literals without an index and without Huffman code, so no table is kept; of the answer the message
// itself is read, and trailers only tell that there will be none.

const (
	h2Data         = 0
	h2Headers      = 1
	h2Reset        = 3
	h2Settings     = 4
	h2Ping         = 6
	h2GoAway       = 7
	h2EndStream    = 1
	h2Ack          = 1
	h2EndHeaders   = 4
	h2Padded       = 8
	h2MaxFrame     = 16 << 10
	healthServing  = 1
	noHealthAnswer = "this server does not answer the gRPC health protocol (grpc.health.v1.Health)"
)

func grpcHealth(within context.Context, address, service string) error {
	conn, err := (&net.Dialer{}).DialContext(within, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(within, func() { conn.Close() })
	defer stop()
	if _, err := conn.Write(healthRequest(address, service)); err != nil {
		return err
	}
	status, err := readHealth(conn)
	if err != nil {
		return err
	}
	if status != healthServing {
		names := map[uint64]string{0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
		return fmt.Errorf("service unhealthy (responded with %q)", names[status])
	}
	return nil
}

func healthRequest(authority, service string) []byte {
	var headers []byte
	for _, pair := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", "/grpc.health.v1.Health/Check"}, {":authority", authority},
		{"content-type", "application/grpc"}, {"te", "trailers"}, {"user-agent", "kube-probe/1.36"},
	} {
		headers = append(headers, 0) // literal, not indexed, new name
		for _, text := range pair {
			headers = append(hpackLength(headers, len(text)), text...)
		}
	}
	var message []byte
	if service != "" {
		message = append(binary.AppendUvarint([]byte{0x0a}, uint64(len(service))), service...)
	}
	body := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	body = append(body, message...)
	out := []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	out = h2Frame(out, h2Settings, 0, 0, nil)
	out = h2Frame(out, h2Headers, h2EndHeaders, 1, headers)
	return h2Frame(out, h2Data, h2EndStream, 1, body)
}

// hpackLength appends a string's length as an integer with a 7-bit prefix.
func hpackLength(out []byte, n int) []byte {
	if n < 127 {
		return append(out, byte(n))
	}
	return binary.AppendUvarint(append(out, 127), uint64(n-127))
}

func h2Frame(out []byte, kind, flags byte, stream uint32, payload []byte) []byte {
	n := len(payload)
	out = append(out, byte(n>>16), byte(n>>8), byte(n), kind, flags)
	return append(binary.BigEndian.AppendUint32(out, stream), payload...)
}

func readHealth(conn net.Conn) (uint64, error) {
	var body []byte
	for {
		var head [9]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return 0, errors.New(noHealthAnswer)
			}
			return 0, err
		}
		length := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
		if length > h2MaxFrame {
			return 0, errors.New(noHealthAnswer) // HTTP/1 reads as a monstrous frame
		}
		payload := make([]byte, length)
		if _, err := io.ReadFull(conn, payload); err != nil {
			return 0, err
		}
		kind, flags := head[3], head[4]
		switch kind {
		case h2Settings, h2Ping:
			if flags&h2Ack == 0 {
				if kind == h2Settings {
					payload = nil
				}
				if _, err := conn.Write(h2Frame(nil, kind, h2Ack, 0, payload)); err != nil {
					return 0, err
				}
			}
		case h2Data:
			body = append(body, unpad(payload, flags)...)
			if status, complete := healthStatus(body); complete {
				return status, nil
			}
		case h2Reset, h2GoAway:
			return 0, errors.New(noHealthAnswer)
		}
		if flags&h2EndStream != 0 && (kind == h2Data || kind == h2Headers) {
			return 0, errors.New(noHealthAnswer)
		}
	}
}

func unpad(payload []byte, flags byte) []byte {
	if flags&h2Padded == 0 || len(payload) == 0 || int(payload[0]) >= len(payload) {
		return payload
	}
	return payload[1 : len(payload)-int(payload[0])]
}

// healthStatus reads field 1 of a HealthCheckResponse behind gRPC's five bytes.
func healthStatus(body []byte) (status uint64, complete bool) {
	if len(body) < 5 {
		return 0, false
	}
	length := int(binary.BigEndian.Uint32(body[1:]))
	if len(body) < 5+length {
		return 0, false
	}
	message := body[5 : 5+length]
	if len(message) >= 2 && message[0] == 0x08 {
		status, _ = binary.Uvarint(message[1:])
	}
	return status, true
}
