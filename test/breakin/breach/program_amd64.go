package breach

// program is a whole ELF executable that ends at once with code 0.
var program = elfOf(0x3e, []byte{0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05}) // xor edi,edi; mov eax,60; syscall
