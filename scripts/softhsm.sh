#!/bin/sh
# SoftHSM2, a token in software, for the tests of keys in hardware.
exec "$(dirname "$0")/debian_tool.sh" softhsm usr/bin/softhsm2-util 'tests of PKCS #11 keys' softhsm2 libsofthsm2
