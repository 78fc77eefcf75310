#!/bin/sh
# A Redis server, for the tests of counters that gateways share. The last three are what it needs of the system and a
# small one does not have.
exec "$(dirname "$0")/debian_tool.sh" redis usr/bin/redis-server 'tests of quotas in Redis' \
    redis-server redis-tools libatomic1 libjemalloc2 liblzf1
