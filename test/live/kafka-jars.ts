/** The jars of Apache Kafka, fetched once through Maven into `.cache`, and the java that runs them. */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { findProgram, runOk } from './command.ts'

/** The version every live test runs against: `OTTLA_KAFKA_VERSION`, and 4.3.1 unless it is set. */
export const kafkaVersion = process.env['OTTLA_KAFKA_VERSION'] ?? '4.3.1'

/** The newest version whose tools are published. They talk to newer brokers, but do not run over newer jars. */
const newestTools = '4.3.1'

const root = path.resolve(import.meta.dirname, '../..')

/** How to start something of Kafka. */
export interface KafkaJars {
  readonly java: string
  /** Where the jars are. */
  readonly folder: string
  /** All jars, joined for `-cp`. */
  readonly classPath: string
}

/** What of Java this machine lacks, in words, or null when Kafka can be started. */
export function missingForKafka(): string | null {
  if (findProgram('java') === null) return 'no `java` on PATH (Debian: openjdk-17-jre-headless)'
  const isComplete = [kafkaVersion, toolsVersion()].every((version) => jarsIn(libsFolder(version)).length > 0)
  if (!isComplete && findProgram('mvn') === null) {
    return 'no Kafka jars in .cache and no `mvn` to fetch them (Debian: maven)'
  }
  return null
}

/** The jars of the brokers, fetched when they are not there yet: 54 MB, half a minute. Throws when Maven cannot. */
export function kafkaJars(): Promise<KafkaJars> {
  return jarsOf(kafkaVersion)
}

/** The jars that Kafka's tools run over: those of the brokers where their tools are published. Throws as above. */
export function toolJars(): Promise<KafkaJars> {
  return jarsOf(toolsVersion())
}

function toolsVersion(): string {
  return isNewer(kafkaVersion, newestTools) ? newestTools : kafkaVersion
}

async function jarsOf(version: string): Promise<KafkaJars> {
  const java = findProgram('java')
  if (java === null) throw new Error('no `java` on PATH')
  const libs = libsFolder(version)
  if (jarsIn(libs).length === 0) await fetchJars(version, libs)
  return { java, folder: libs, classPath: jarsIn(libs).join(path.delimiter) }
}

/** `OTTLA_KAFKA_LIBS` for the brokers' version, or the cache of this checkout. */
function libsFolder(version: string): string {
  const given = version === kafkaVersion ? process.env['OTTLA_KAFKA_LIBS'] : undefined
  return given ?? path.join(root, '.cache', `kafka-${version}`, 'libs')
}

function jarsIn(folder: string): string[] {
  if (!existsSync(folder)) return []
  return readdirSync(folder)
    .filter((name) => name.endsWith('.jar'))
    .sort()
    .map((name) => path.join(folder, name))
}

function isNewer(version: string, than: string): boolean {
  return version.localeCompare(than, 'en', { numeric: true }) > 0
}

async function fetchJars(version: string, libs: string): Promise<void> {
  const maven = findProgram('mvn')
  if (maven === null) throw new Error('no Kafka jars in .cache and no `mvn` on PATH to fetch them')
  // Fetched beside and moved into place: a run that is interrupted leaves no half folder that looks whole.
  const work = `${libs}.${process.pid}`
  mkdirSync(work, { recursive: true })
  try {
    const dependency = (group: string, artifact: string, version: string) =>
      `<dependency><groupId>${group}</groupId><artifactId>${artifact}</artifactId><version>${version}</version></dependency>`
    writeFileSync(
      path.join(work, 'pom.xml'),
      `<project><modelVersion>4.0.0</modelVersion><groupId>ottla</groupId><artifactId>kafka-jars</artifactId><version>1</version><dependencies>
${dependency('org.apache.kafka', 'kafka_2.13', version)}
${isNewer(version, newestTools) ? '' : dependency('org.apache.kafka', 'kafka-tools', version)}
${dependency('org.slf4j', 'slf4j-simple', '1.7.36')}
</dependencies></project>\n`,
    )
    await runOk(maven, ['-q', '-B', 'dependency:copy-dependencies', '-DoutputDirectory=jars'], {
      cwd: work,
      timeoutMs: 600_000,
    })
    rmSync(libs, { recursive: true, force: true })
    renameSync(path.join(work, 'jars'), libs)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}
