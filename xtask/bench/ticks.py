"""Spins beside some megabytes of memory that is in use, and tells 50 times a second what the wall clock says, how often it was looked at since
the last time, and how many milliseconds lay between two looks at most. Tells at once where the wall clock jumps, as after a restore."""

import os
import sys
import time

megabytes = int(sys.argv[1])
kept = bytearray(os.urandom(1 << 20)) * megabytes
for page in range(0, len(kept), 4096):
    kept[page:page + 8] = page.to_bytes(8, "little")

told = last = time.perf_counter()
wall_of_last = time.time()
looks, worst = 0, 0.0
while True:
    now, wall = time.perf_counter(), time.time()
    looks += 1
    worst = max(worst, now - last)
    if abs(wall - wall_of_last - (now - last)) > 0.01:
        print("back", wall, flush=True)
    last, wall_of_last = now, wall
    if now - told > 0.02:
        print("tick", wall, looks, worst * 1e3, flush=True)
        told, looks, worst = now, 0, 0.0
