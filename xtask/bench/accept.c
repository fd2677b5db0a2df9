/* accept PORT [fork]: tells each connection when its first instruction was run, in nanoseconds of the wall clock. With `fork`
   each is served by a child. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[1])) };
	int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
	int forks = argc > 2;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(listener, (void *)&address, sizeof address) || listen(listener, 128)) {
		perror("listen");
		return 1;
	}
	signal(SIGCHLD, SIG_IGN);
	puts("serving");
	fflush(stdout);
	for (;;) {
		int connection = accept(listener, 0, 0);
		struct timespec now;
		char line[32];

		if (connection < 0 || (forks && fork() != 0)) {
			if (connection >= 0)
				close(connection);
			continue;
		}
		clock_gettime(CLOCK_REALTIME, &now);
		snprintf(line, sizeof line, "%lld%09ld\n", (long long)now.tv_sec, now.tv_nsec);
		if (write(connection, line, strlen(line)) < 0)
			return 1;
		close(connection);
		if (forks)
			_exit(0);
	}
}
