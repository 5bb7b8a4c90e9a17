/**
 * Apache Kafka for tests: real brokers in KRaft mode, started from jars, no Docker.
 *
 * `startKafkaCluster` starts one or three brokers without encryption, `startSecureKafka` one broker that speaks
 * SASL_SSL (SCRAM, PLAIN, OAUTHBEARER) and mutual TLS. Each node can be killed, stopped and restarted over the same data. The nodes
 * are also written into a control file, so that tests in other processes can do the same: `controlledCluster(file)`.
 *
 * Ports are chosen before the start and kept over restarts. A node counts as ready when it answers a request.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { makeCertificates, type TestCertificates } from './certificates.ts'
import { runOk } from './command.ts'
import { freePorts } from './free-ports.ts'
import { type KafkaJars, kafkaJars } from './kafka-jars.ts'

/** One node as the control file describes it. */
export interface ControlledNode {
  readonly id: number
  /** Of the running JVM, or of the last one. */
  readonly pid: number
  /** Client port on 127.0.0.1. */
  readonly port: number
  /** Whether that port speaks TLS. */
  readonly tls: boolean
  /** Program and arguments that start it again over the same data. */
  readonly start: readonly string[]
  /** What the node prints goes here. */
  readonly log: string
}

/** What a test may do to the nodes of a cluster. */
export interface KafkaNodes {
  readonly bootstrapServers: string
  readonly nodes: readonly ControlledNode[]
  /** SIGKILL, and waits until the process is gone. */
  kill(id: number): Promise<void>
  /** SIGTERM: a controlled shutdown; waits for its end. */
  stop(id: number): Promise<void>
  /** Starts a node that is down and waits for its port. Does nothing when it runs. */
  start(id: number): Promise<void>
}

/** A cluster of this process; disposing stops the nodes and removes their data. */
export interface KafkaCluster extends KafkaNodes, AsyncDisposable {
  /** For `OTTLA_LIVE_CONTROL`. */
  readonly controlFile: string
  readonly folder: string
}

/** How to reach the secured broker: the value of `OTTLA_LIVE_KAFKA_SECURE`, as JSON. */
export interface SecureKafkaFacts {
  /** The SASL_SSL listener. */
  readonly bootstrapServers: string
  /** File of the CA certificate, PEM. */
  readonly caFile: string
  /** A SCRAM user, known for SCRAM-SHA-256 and SCRAM-SHA-512. May do everything. */
  readonly scram: { readonly username: string; readonly password: string }
  /** A PLAIN user. May do everything. */
  readonly plain: { readonly username: string; readonly password: string }
  /** The listener with mutual TLS, and a client certificate it accepts. */
  readonly mtls: {
    readonly bootstrapServers: string
    readonly certFile: string
    readonly keyFile: string
  }
  /** The listener for OAUTHBEARER, and what its tokens are made with (RS256). Subject `alice` may do everything. */
  readonly oauth: {
    readonly bootstrapServers: string
    /** PEM, PKCS#8. */
    readonly signingKey: string
    readonly keyId: string
    readonly issuer: string
    readonly audience: string
  }
}

export interface SecureKafka extends KafkaCluster {
  readonly facts: SecureKafkaFacts
}

export interface KafkaClusterOptions {
  /** Default 3. */
  readonly brokers?: 1 | 3
  /** Lines added to every server.properties; they win over the ones of the recipe. */
  readonly properties?: Readonly<Record<string, string>>
}

const readyTimeoutMs = 90_000

/** Starts one or three brokers without encryption. About 5 s and 170 MB each. */
export async function startKafkaCluster(options: KafkaClusterOptions = {}): Promise<KafkaCluster> {
  const count = options.brokers ?? 3
  const ports = await freePorts(count * 2)
  const ids = Array.from({ length: count }, (_, index) => index + 1)
  const client = (id: number) => ports[id - 1] as number
  const controller = (id: number) => ports[count + id - 1] as number
  return startNodes(
    ids.map((id) => ({
      id,
      port: client(id),
      tls: false,
      properties: {
        ...commonProperties(count),
        'node.id': String(id),
        'controller.quorum.voters': ids.map((voter) => `${voter}@127.0.0.1:${controller(voter)}`).join(','),
        listeners: `PLAINTEXT://127.0.0.1:${client(id)},CONTROLLER://127.0.0.1:${controller(id)}`,
        'advertised.listeners': `PLAINTEXT://127.0.0.1:${client(id)}`,
        'inter.broker.listener.name': 'PLAINTEXT',
        'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT',
        ...options.properties,
      },
    })),
  )
}

/** Starts one broker with SASL_SSL (SCRAM-SHA-256, SCRAM-SHA-512, PLAIN, OAUTHBEARER) and mutual TLS listeners. */
export async function startSecureKafka(): Promise<SecureKafka> {
  const [saslPort = 0, mtlsPort = 0, oauthPort = 0, controllerPort = 0] = await freePorts(4)
  const scram = { username: 'alice', password: 'alice-secret' }
  const plain = { username: 'admin', password: 'admin-secret' }
  const certificateFolder = mkdtempSync(path.join(tmpdir(), 'ottla-certificates-'))
  const oauth = { keyId: 'test-key', issuer: 'https://issuer.test', audience: 'ottla' }
  const signing = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const jwksFile = path.join(certificateFolder, 'jwks.json')
  const jwk = { ...signing.publicKey.export({ format: 'jwk' }), kid: oauth.keyId, use: 'sig', alg: 'RS256' }
  let certificates: TestCertificates
  let cluster: KafkaCluster
  try {
    certificates = await makeCertificates(certificateFolder)
    writeFileSync(jwksFile, JSON.stringify({ keys: [jwk] }))
    const jaas = 'org.apache.kafka.common.security'
    cluster = await startNodes(
      [
        {
          id: 1,
          port: saslPort,
          tls: true,
          properties: {
            ...commonProperties(1),
            'node.id': '1',
            'controller.quorum.voters': `1@127.0.0.1:${controllerPort}`,
            listeners: `SASLSSL://127.0.0.1:${saslPort},MTLS://127.0.0.1:${mtlsPort},OAUTH://127.0.0.1:${oauthPort},CONTROLLER://127.0.0.1:${controllerPort}`,
            'advertised.listeners': `SASLSSL://127.0.0.1:${saslPort},MTLS://127.0.0.1:${mtlsPort},OAUTH://127.0.0.1:${oauthPort}`,
            'listener.security.protocol.map': 'SASLSSL:SASL_SSL,MTLS:SSL,OAUTH:SASL_SSL,CONTROLLER:SSL',
            'inter.broker.listener.name': 'MTLS',
            'ssl.keystore.type': 'PEM',
            'ssl.keystore.location': certificates.broker.keyStoreFile,
            'ssl.truststore.type': 'PEM',
            'ssl.truststore.location': certificates.caFile,
            'listener.name.mtls.ssl.client.auth': 'required',
            'listener.name.controller.ssl.client.auth': 'required',
            'ssl.principal.mapping.rules':
              'RULE:^CN=([^,]+),OU=services,O=ottla$/$1/L,RULE:^CN=([^,]+),O=ottla$/$1/,DEFAULT',
            'listener.name.saslssl.sasl.enabled.mechanisms': 'SCRAM-SHA-512,SCRAM-SHA-256,PLAIN',
            'listener.name.saslssl.scram-sha-512.sasl.jaas.config': `${jaas}.scram.ScramLoginModule required;`,
            'listener.name.saslssl.scram-sha-256.sasl.jaas.config': `${jaas}.scram.ScramLoginModule required;`,
            'listener.name.saslssl.plain.sasl.jaas.config': `${jaas}.plain.PlainLoginModule required user_${plain.username}="${plain.password}";`,
            'listener.name.oauth.sasl.enabled.mechanisms': 'OAUTHBEARER',
            'listener.name.oauth.oauthbearer.sasl.jaas.config': `${jaas}.oauthbearer.OAuthBearerLoginModule required;`,
            'listener.name.oauth.oauthbearer.sasl.server.callback.handler.class': `${jaas}.oauthbearer.OAuthBearerValidatorCallbackHandler`,
            'listener.name.oauth.sasl.oauthbearer.jwks.endpoint.url': `file://${jwksFile}`,
            'listener.name.oauth.sasl.oauthbearer.expected.audience': oauth.audience,
            'listener.name.oauth.sasl.oauthbearer.expected.issuer': oauth.issuer,
            'authorizer.class.name': 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
            'super.users': `User:broker;User:${plain.username};User:${scram.username};User:svc-orders`,
            'allow.everyone.if.no.acl.found': 'false',
          },
          // Without it the broker does not start: addresses of keys are refused unless they are named here.
          java: [`-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://${jwksFile}`],
        },
      ],
      ['SCRAM-SHA-256', 'SCRAM-SHA-512'].flatMap((mechanism) => [
        '--add-scram',
        `${mechanism}=[name=${scram.username},password=${scram.password}]`,
      ]),
    )
  } catch (error) {
    rmSync(certificateFolder, { recursive: true, force: true })
    throw error
  }
  return {
    ...cluster,
    facts: {
      bootstrapServers: `127.0.0.1:${saslPort}`,
      caFile: certificates.caFile,
      scram,
      plain,
      mtls: {
        bootstrapServers: `127.0.0.1:${mtlsPort}`,
        certFile: certificates.client.certFile,
        keyFile: certificates.client.keyFile,
      },
      oauth: {
        bootstrapServers: `127.0.0.1:${oauthPort}`,
        signingKey: signing.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
        ...oauth,
      },
    },
    get nodes() {
      return cluster.nodes
    },
    async [Symbol.asyncDispose]() {
      await cluster[Symbol.asyncDispose]()
      rmSync(certificateFolder, { recursive: true, force: true })
    },
  }
}

/** The nodes of a cluster that another process started, by its control file. */
export function controlledCluster(controlFile: string): KafkaNodes {
  const read = () => (JSON.parse(readFileSync(controlFile, 'utf8')) as { nodes: ControlledNode[] }).nodes
  const node = (id: number) => {
    const found = read().find((candidate) => candidate.id === id)
    if (found === undefined) throw new Error(`no node ${id} in ${controlFile}`)
    return found
  }
  const end = async (id: number, signal: 'SIGKILL' | 'SIGTERM') => {
    const running = node(id)
    const { pid } = running
    if (!isRunning(running)) return
    process.kill(pid, signal)
    const deadlineMs = performance.now() + 60_000
    while (isRunning(running)) {
      if (performance.now() > deadlineMs) throw new Error(`node ${id} (process ${pid}) did not end after ${signal}`)
      await sleep(20)
    }
  }
  return {
    get bootstrapServers() {
      return read()
        .map(({ port }) => `127.0.0.1:${port}`)
        .join(',')
    },
    get nodes() {
      return read()
    },
    kill: (id) => end(id, 'SIGKILL'),
    stop: (id) => end(id, 'SIGTERM'),
    async start(id) {
      const down = node(id)
      if (isRunning(down)) return
      const child = launch(down)
      writeControl(
        controlFile,
        read().map((other) => (other.id === id ? { ...other, pid: child.pid as number } : other)),
      )
      await portReady(down, child)
    },
  }
}

interface NodePlan {
  readonly id: number
  readonly port: number
  readonly tls: boolean
  readonly properties: Readonly<Record<string, string>>
  /** Further options of the JVM. */
  readonly java?: readonly string[]
}

async function startNodes(plans: readonly NodePlan[], formatArgs: readonly string[] = []): Promise<KafkaCluster> {
  const jars = await kafkaJars()
  const folder = mkdtempSync(path.join(tmpdir(), 'ottla-kafka-'))
  const controlFile = path.join(folder, 'control.json')
  const cleanUp = () => {
    // Also runs when the process ends without disposing: no JVM is left behind.
    for (const node of controlledCluster(controlFile).nodes) if (isRunning(node)) process.kill(node.pid, 'SIGKILL')
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
  }
  writeControl(controlFile, [])
  process.once('exit', cleanUp)
  try {
    // A leading dash would be taken for an option by Kafka's tools.
    const clusterId = randomBytes(16).toString('base64url').replace(/^-/, 'A')
    const nodes = await Promise.all(plans.map((plan) => prepareNode(plan, { jars, folder, clusterId, formatArgs })))
    const children = nodes.map(launch)
    writeControl(
      controlFile,
      nodes.map((node, index) => ({ ...node, pid: children[index]?.pid as number })),
    )
    await Promise.all(nodes.map((node, index) => portReady(node, children[index] as ChildProcess)))
  } catch (error) {
    process.off('exit', cleanUp)
    cleanUp()
    throw error
  }
  const controlled = controlledCluster(controlFile)
  return {
    bootstrapServers: controlled.bootstrapServers,
    get nodes() {
      return controlled.nodes
    },
    kill: controlled.kill,
    stop: controlled.stop,
    start: controlled.start,
    controlFile,
    folder,
    async [Symbol.asyncDispose]() {
      process.off('exit', cleanUp)
      // The data goes with the nodes, so nothing is gained by a controlled shutdown.
      await Promise.all(controlled.nodes.map(({ id }) => controlled.kill(id)))
      cleanUp()
    },
  }
}

async function prepareNode(
  plan: NodePlan,
  context: { jars: KafkaJars; folder: string; clusterId: string; formatArgs: readonly string[] },
): Promise<ControlledNode> {
  const home = path.join(context.folder, `node-${plan.id}`)
  mkdirSync(home)
  const propertiesFile = path.join(home, 'server.properties')
  const properties = { ...plan.properties, 'log.dirs': path.join(home, 'data') }
  writeFileSync(
    propertiesFile,
    Object.entries(properties)
      .map(([name, value]) => `${name}=${value}\n`)
      .join(''),
  )
  const java = [
    '-XX:+UseSerialGC',
    '-XX:TieredStopAtLevel=1',
    '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn',
    ...(plan.java ?? []),
  ]
  await runOk(context.jars.java, [
    '-Xmx128m',
    ...java,
    '-cp',
    context.jars.classPath,
    'kafka.tools.StorageTool',
    'format',
    '-t',
    context.clusterId,
    '-c',
    propertiesFile,
    ...context.formatArgs,
  ])
  return {
    id: plan.id,
    pid: 0,
    port: plan.port,
    tls: plan.tls,
    start: [
      context.jars.java,
      '-Xmx512m',
      '-Xms128m',
      ...java,
      '-cp',
      context.jars.classPath,
      'kafka.Kafka',
      propertiesFile,
    ],
    log: path.join(home, 'node.log'),
  }
}

function launch(node: ControlledNode): ChildProcess {
  const [program, ...args] = node.start
  const log = openSync(node.log, 'a')
  // Detached: Ctrl-C in the terminal reaches only the runner, and a test that restarts a node may end before it does.
  const child = spawn(program as string, args, { stdio: ['ignore', log, log], detached: true })
  child.unref()
  closeSync(log)
  return child
}

async function portReady(node: ControlledNode, child: ChildProcess): Promise<void> {
  const deadlineMs = performance.now() + readyTimeoutMs
  while (!(await answers(node))) {
    const ended = child.exitCode !== null || child.signalCode !== null
    if (ended || performance.now() > deadlineMs) {
      const said = readFileSync(node.log, 'utf8').split('\n').slice(-40).join('\n')
      throw new Error(`Kafka node ${node.id} ${ended ? 'ended' : 'is not ready'}\n${said}`)
    }
    await sleep(50)
  }
}

/** ApiVersions, version 0, without a client id: any broker answers it to anybody. */
const apiVersionsRequest = Uint8Array.of(0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff)

/** Does the broker answer a request? Over TLS: does it take a connection? */
function answers(node: ControlledNode): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port: node.port, host: '127.0.0.1' })
    const end = (answered: boolean) => {
      socket.destroy()
      resolve(answered)
    }
    socket.setTimeout(5_000, () => end(false))
    socket.once('connect', () => {
      if (node.tls) end(true)
      else socket.write(apiVersionsRequest)
    })
    socket.once('data', () => end(true))
    socket.once('close', () => end(false))
    socket.once('error', () => end(false))
  })
}

/**
 * Is the node's last process still there? One that ended but was not waited for by its parent is not, and neither is a
 * stranger who got the number since.
 */
function isRunning({ pid, start }: ControlledNode): boolean {
  if (pid <= 0) return false
  try {
    process.kill(pid, 0)
  } catch {
    return false
  }
  if (process.platform !== 'linux') return true
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    if (stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3) === 'Z') return false
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(start.at(-1) as string)
  } catch {
    // Gone in between.
    return false
  }
}

function writeControl(controlFile: string, nodes: readonly ControlledNode[]): void {
  writeFileSync(controlFile, `${JSON.stringify({ nodes }, null, 2)}\n`)
}

/** The recipe for small machines: few threads, few internal partitions, no waiting before a first rebalance. */
function commonProperties(brokers: number): Record<string, string> {
  const replicas = String(brokers)
  const inSync = brokers === 1 ? '1' : '2'
  return {
    'process.roles': 'broker,controller',
    'controller.listener.names': 'CONTROLLER',
    'num.partitions': '6',
    'default.replication.factor': replicas,
    'min.insync.replicas': inSync,
    'offsets.topic.replication.factor': replicas,
    'offsets.topic.num.partitions': '4',
    'transaction.state.log.replication.factor': replicas,
    'transaction.state.log.min.isr': inSync,
    'transaction.state.log.num.partitions': '4',
    'share.coordinator.state.topic.replication.factor': replicas,
    'share.coordinator.state.topic.min.isr': inSync,
    'share.coordinator.state.topic.num.partitions': '2',
    'group.initial.rebalance.delay.ms': '0',
    'group.min.session.timeout.ms': '1000',
    'num.network.threads': '2',
    'num.io.threads': '2',
    'background.threads': '2',
    'num.replica.fetchers': '1',
    'num.recovery.threads.per.data.dir': '1',
    'log.cleaner.threads': '1',
    'log.cleaner.dedupe.buffer.size': '16777216',
    'auto.leader.rebalance.enable': 'false',
    'auto.create.topics.enable': 'false',
    'replica.lag.time.max.ms': '5000',
    'broker.heartbeat.interval.ms': '500',
    'broker.session.timeout.ms': '3000',
  }
}
